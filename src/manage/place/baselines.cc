// SPDX-License-Identifier: Apache-2.0
#include "manage/place/baselines.h"

#include <algorithm>
#include <limits>
#include <map>

namespace outboard::manage {
namespace {

using profile::Discipline;

bool first_come(const profile::Device& device) {
  return device.discipline == Discipline::kFcfs || device.discipline == Discipline::kPriority ||
         device.discipline == Discipline::kEdf;
}

double free_bytes(const Load& load) {
  return static_cast<double>(load.device->memory_bytes) - static_cast<double>(memory_bytes(load));
}

// splitmix64 (Vigna): a step, and the number it gives.
std::uint64_t next(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

}  // namespace

std::string_view name_of(Rule rule) {
  switch (rule) {
    case Rule::kMemoryFirst:
      return "memory-first";
    case Rule::kMemoryBest:
      return "memory-best";
    case Rule::kMemoryWorst:
      return "memory-worst";
    case Rule::kIbisBreadth:
      return "ibis-breadth";
    case Rule::kIbisDepth:
      return "ibis-depth";
    case Rule::kUtilisationUnits:
      return "utilisation-units";
    case Rule::kRandom:
      return "random";
  }
  return "?";
}

Baseline::Baseline(Fleet& fleet, Rule rule, BaselineOptions options)
    : fleet_(fleet), rule_(rule), options_(options), random_(options.seed) {}

// Streams of one copy are one stream there, so s'_i and the rate are a copy's.
Baseline::Means Baseline::ibis_means(const Load& load) {
  struct Copy {
    double rate = 0, service = 0, swap = 0;  // per ms, ms
    double effective = 0;
  };
  std::map<int, Copy> copies;
  double total = 0;
  for (const LoadPart& part : load.parts) {
    Copy& copy = copies[part.copy];
    copy.rate += part.rate_per_s() * 1e-3;
    copy.service = part.profile->service.mean_us() * 1e-3;
    copy.swap = part.profile->swap.mean_us() * 1e-3;
    total += part.rate_per_s() * 1e-3;
  }
  const bool fcfs = first_come(*load.device);
  Means means;
  double mean = 0, second = 0;
  for (auto& [number, copy] : copies) {
    copy.effective = copy.service + (fcfs ? (1 - copy.rate / total) * copy.swap : 0);
    mean += copy.rate / total * copy.effective;
    second += copy.rate / total * copy.effective * copy.effective;
  }
  means.utilisation = total * mean;
  double wait = std::numeric_limits<double>::infinity();
  if (means.utilisation < 1) {
    // Pollaczek-Khinchine, or 1 / (mu - lambda) - 1 / mu.
    wait = fcfs ? total * second / (2 * (1 - means.utilisation))
                : mean / (1 - means.utilisation) - mean;
  }
  for (const LoadPart& part : load.parts) {
    // Host stage as M/M/1 with its own rate, network a constant.
    const double host = part.profile->before.mean_us() * 1e-3;
    const double busy = part.rate_per_s() * 1e-3 * host;
    const double before = busy < 1 ? host / (1 - busy) : std::numeric_limits<double>::infinity();
    means.response_ms.push_back(copies[part.copy].effective + wait + before +
                                load.device->network.mean_us() * 1e-3);
  }
  return means;
}

bool Baseline::memory_fits(const Load& load) const {
  return load.device->memory_bytes == 0 ||
         static_cast<double>(memory_bytes(load)) <=
             options_.memory_fraction * static_cast<double>(load.device->memory_bytes);
}

bool Baseline::ibis_feasible(const Load& load) const {
  const Means means = ibis_means(load);
  if (means.utilisation > options_.threshold) return false;
  std::map<int, double> rate_of_copy;
  for (const LoadPart& part : load.parts) rate_of_copy[part.copy] += part.rate_per_s();
  for (std::size_t i = 0; i < load.parts.size(); ++i) {
    const LoadPart& part = load.parts[i];
    if (part.rate_per_s() * part.profile->before.mean_us() * 1e-6 > options_.threshold)
      return false;
    if (rate_of_copy[part.copy] >= options_.threshold * 1e3 / means.response_ms[i]) return false;
    const double limit = part.application->limit.latency_ms;
    if (limit > 0 && means.response_ms[i] >= limit) return false;
  }
  return true;
}

bool Baseline::feasible(AppId app, DeviceId device) const {
  if (fleet_.lost(device) || !fleet_.profile(app, device)) return false;
  Load load = fleet_.load(device);
  add(load, fleet_.part(app, device, 1));
  if (!memory_fits(load)) return false;
  switch (rule_) {
    case Rule::kIbisBreadth:
    case Rule::kIbisDepth:
      return ibis_feasible(load);
    case Rule::kUtilisationUnits: {
      double units = 0;
      for (const LoadPart& part : load.parts) {
        units += part.rate_per_s() * part.profile->service.mean_us() * 1e-6;
      }
      return units <= 1;
    }
    default:
      return true;
  }
}

bool Baseline::has_copy(AppId app, DeviceId device) const {
  const int copy = fleet_.part(app, device, 1).copy;
  const Load load = fleet_.load(device);
  return std::any_of(load.parts.begin(), load.parts.end(),
                     [&](const LoadPart& part) { return part.copy == copy; });
}

std::optional<DeviceId> Baseline::choose_ibis(AppId app,
                                              const std::vector<DeviceId>& feasible) const {
  // The best of each kind by the method, then the kind that adds least utilisation.
  std::map<std::string, std::vector<DeviceId>> kinds;
  for (DeviceId d : feasible) kinds[fleet_.device(d).kind].push_back(d);
  std::optional<DeviceId> best;
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [kind, devices] : kinds) {
    auto chosen =
        std::find_if(devices.begin(), devices.end(), [&](DeviceId d) { return has_copy(app, d); });
    if (chosen == devices.end() && rule_ == Rule::kIbisDepth) chosen = devices.begin();
    if (chosen == devices.end()) {
      chosen = std::min_element(devices.begin(), devices.end(), [&](DeviceId a, DeviceId b) {
        const double ua = fleet_.on(a).empty() ? -1 : ibis_means(fleet_.load(a)).utilisation;
        const double ub = fleet_.on(b).empty() ? -1 : ibis_means(fleet_.load(b)).utilisation;
        return ua < ub;
      });
    }
    Load load = fleet_.load(*chosen);
    const double before = load.parts.empty() ? 0 : ibis_means(load).utilisation;
    add(load, fleet_.part(app, *chosen, 1));
    const double added = ibis_means(load).utilisation - before;
    if (added < least) {
      least = added;
      best = *chosen;
    }
  }
  return best;
}

std::optional<DeviceId> Baseline::choose(AppId app, const std::vector<DeviceId>& feasible) {
  if (rule_ == Rule::kIbisBreadth || rule_ == Rule::kIbisDepth) return choose_ibis(app, feasible);
  if (rule_ == Rule::kRandom) return feasible[next(random_) % feasible.size()];
  if (rule_ == Rule::kUtilisationUnits) return feasible.front();
  const auto with =
      std::find_if(feasible.begin(), feasible.end(), [&](DeviceId d) { return has_copy(app, d); });
  if (with != feasible.end()) return *with;
  if (rule_ == Rule::kMemoryFirst) return feasible.front();
  const double sign = rule_ == Rule::kMemoryBest ? 1 : -1;
  return *std::min_element(feasible.begin(), feasible.end(), [&](DeviceId a, DeviceId b) {
    return sign * free_bytes(fleet_.load(a)) < sign * free_bytes(fleet_.load(b));
  });
}

std::optional<DeviceId> Baseline::admit(AppId app) {
  std::vector<DeviceId> fitting;
  for (DeviceId d = 0; d < fleet_.devices(); ++d) {
    if (feasible(app, d)) fitting.push_back(d);
  }
  if (fitting.empty()) return std::nullopt;
  const auto device = choose(app, fitting);
  if (device) fleet_.put(app, {*device, 1});
  return device;
}

}  // namespace outboard::manage
