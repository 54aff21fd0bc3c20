// SPDX-License-Identifier: Apache-2.0
#include "manage/place/queue_judge.h"

#include <algorithm>
#include <cstdint>

namespace outboard::manage {
namespace {

// What is outside the accelerator needs no more: it is in series and its mean is kept.
constexpr std::size_t kOutsideAtoms = 32;
constexpr double kMixtureHigh = 1.1;
constexpr double kSharedHigh = 1.4;
constexpr std::size_t kSimulatedCost = 6;  // measured against the exact answer, at 20,000 requests

profile::Distribution outside_of(const profile::ModelProfile& model,
                                 const profile::Device& device) {
  return convolve(convolve(model.before, model.after, kOutsideAtoms), device.network,
                  kOutsideAtoms);
}

Stream stream_of(const LoadPart& part, const profile::Distribution& outside) {
  const profile::Application& app = *part.application;
  Stream stream;
  stream.name = app.name;
  stream.model = part.copy;
  stream.rate_per_s = part.rate_per_s();
  stream.service = part.profile->service;
  stream.swap = part.profile->swap;
  stream.outside = outside;
  stream.limit = app.limit;
  stream.priority = app.priority;
  stream.slow_down_per_other = part.profile->slow_down_per_other;
  stream.batch = part.profile->batch;
  stream.arrivals_s = thinned(app.arrivals_s, part.share);
  stream.burstiness = app.burstiness == profile::Burstiness{} ? app.burstiness
                                                              : thinned(app.burstiness, part.share);
  return stream;
}

System empty_system(const profile::Device& device) {
  System system;
  system.discipline = device.discipline;
  system.servers = device.servers;
  system.batch_wait_us = device.batch_wait_us;
  return system;
}

bool bursty(const Load& load) {
  return std::any_of(load.parts.begin(), load.parts.end(), [](const LoadPart& part) {
    return !part.application->arrivals_s.empty() ||
           part.application->burstiness != profile::Burstiness{};
  });
}

// Whether predict() answers by simulation.
bool simulated(const Load& load) {
  const auto discipline = load.device->discipline;
  return bursty(load) || load.device->servers != 1 ||
         (discipline != profile::Discipline::kFcfs &&
          discipline != profile::Discipline::kProcessorSharing);
}

}  // namespace

System system_of(const Load& load) {
  System system = empty_system(*load.device);
  system.streams.reserve(load.parts.size());
  for (const LoadPart& part : load.parts) {
    system.streams.push_back(stream_of(part, outside_of(*part.profile, *load.device)));
  }
  return system;
}

QueueJudge::QueueJudge(std::size_t requests) { options_.requests = requests; }

const profile::Distribution& QueueJudge::outside_of(const LoadPart& part,
                                                    const profile::Device& device) {
  const auto address = reinterpret_cast<std::uintptr_t>(part.profile);
  std::string key(reinterpret_cast<const char*>(&address), sizeof(address));
  for (const auto& atom : device.network.atoms()) {
    key.append(reinterpret_cast<const char*>(&atom), sizeof(atom));
  }
  auto known = outside_.find(key);
  if (known == outside_.end()) {
    known = outside_.emplace(std::move(key), manage::outside_of(*part.profile, device)).first;
  }
  return known->second;
}

System QueueJudge::system_of(const Load& load) {
  System system = empty_system(*load.device);
  system.streams.reserve(load.parts.size());
  for (const LoadPart& part : load.parts) {
    system.streams.push_back(stream_of(part, outside_of(part, *load.device)));
  }
  return system;
}

Result<Verdict> QueueJudge::judge(const Load& load) {
  OB_TRY(const Answer answer, predictor_.predict(system_of(load), options_));
  Verdict verdict;
  verdict.parts.reserve(answer.streams.size());
  for (const StreamAnswer& a : answer.streams) {
    verdict.parts.push_back({a.mean_us,
                             a.percentile_us,
                             a.percentile_error_us,
                             a.p_late,
                             {a.terms.service_us, a.terms.swap_us, a.terms.queue_us,
                              a.terms.sharing_us, a.terms.outside_us}});
  }
  return verdict;
}

Result<std::vector<Range>> QueueJudge::screen(const Load& load) {
  const System system = system_of(load);
  OB_TRY(const Bounds bounds, predictor_.bounds(system));
  std::vector<Range> ranges;
  ranges.reserve(bounds.streams.size());
  for (const Bounds::Of& b : bounds.streams) ranges.push_back({b.lower_us, b.lower_us, b.upper_us});
  const bool shared = load.device->discipline == profile::Discipline::kTimeShared;
  if (bursty(load) || system.servers != 1 || (simulated(load) && !shared)) return ranges;
  // What the approximations were seen to be too high by, at most (queue_judge_test has the check).
  const double high = shared ? kSharedHigh : kMixtureHigh;
  Predictor::Options quick = options_;
  quick.effort = Effort::kScreen;
  OB_TRY(const Answer answer, predictor_.predict(system, quick));
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    ranges[i].likely_us = std::max(ranges[i].lower_us, answer.streams[i].percentile_us / high);
  }
  return ranges;
}

std::size_t QueueJudge::cost(const Load& load) const {
  if (load.parts.empty()) return 0;
  return simulated(load) ? kSimulatedCost : 1;
}

}  // namespace outboard::manage
