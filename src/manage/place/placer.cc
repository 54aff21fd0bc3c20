// SPDX-License-Identifier: Apache-2.0
// Candidates, the check of one, and what is remembered of it.
#include "manage/place/placer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

namespace outboard::manage {
namespace {

std::size_t index(int id) { return static_cast<std::size_t>(id); }

// Sums of products in another order differ in their last bits; a decision must not.
double rounded(double utilisation) { return std::round(utilisation * 1e9) * 1e-9; }

Obstacle fact(const Fleet& fleet, DeviceId device, Breach breach) {
  Obstacle obstacle;
  obstacle.device = fleet.device(device).name;
  obstacle.breach = breach;
  return obstacle;
}

std::size_t part_of(const Load& load, const profile::Application& application) {
  for (std::size_t i = 0; i < load.parts.size(); ++i) {
    if (load.parts[i].application == &application) return i;
  }
  return load.parts.size();
}

}  // namespace

Placer::Placer(Fleet& fleet, Judge& judge, PlacerOptions options)
    : fleet_(fleet), judge_(judge), options_(options) {
  plans_.resize(index(fleet.devices()));
  refused_.resize(index(fleet.devices()));
}

// A fact that forbids the device, whatever the load.
std::optional<Obstacle> Placer::forbidden(const Fleet& fleet, AppId app, DeviceId device) {
  const profile::Application& a = fleet.application(app);
  if (!fleet.profile(app, device)) return fact(fleet, device, Breach::kNoProfile);
  if (!a.pinned.empty() &&
      !std::binary_search(a.pinned.begin(), a.pinned.end(), fleet.device(device).name)) {
    return fact(fleet, device, Breach::kPinned);
  }
  if (a.apart.empty()) return std::nullopt;
  for (AppId other : fleet.on(device)) {
    if (other == app || fleet.application(other).apart != a.apart) continue;
    Obstacle obstacle = fact(fleet, device, Breach::kApart);
    obstacle.application = fleet.application(other).name;
    obstacle.detail = a.apart;
    return obstacle;
  }
  return std::nullopt;
}

std::vector<Placer::Candidate> Placer::candidates(AppId app, double share,
                                                  std::vector<Obstacle>* excluded) {
  std::vector<Candidate> found;
  for (DeviceId d = 0; d < fleet_.devices(); ++d) {
    if (fleet_.lost(d)) continue;
    if (auto obstacle = forbidden(fleet_, app, d)) {
      if (excluded) excluded->push_back(*std::move(obstacle));
      continue;
    }
    if (auto obstacle = known(app, share, d)) {
      if (excluded) excluded->push_back(*std::move(obstacle));
      continue;
    }
    Load load = fleet_.load(d);
    const LoadPart part = fleet_.part(app, d, share);
    Candidate candidate{d, 0, false, 0};
    for (const LoadPart& other : load.parts) candidate.copy |= other.copy == part.copy;
    const double before = load.parts.empty() ? 0 : utilisation(load);
    add(load, part);
    const Finding finding = check_quickly(load, options_.promise);
    // Batching may serve what one at a time cannot.
    if (!finding.holds() && (finding.breach == Breach::kMemory || !fleet_.device(d).may_batch)) {
      if (excluded) {
        Fit fit{finding, fleet_.device(d), std::move(load)};
        excluded->push_back(obstacle_of(fit, app, d));
      }
      continue;
    }
    candidate.after = rounded(utilisation(load));
    candidate.added = rounded(candidate.after - before);
    found.push_back(candidate);
  }
  const double sign = options_.tight ? -1 : 1;
  std::sort(found.begin(), found.end(), [&](const Candidate& a, const Candidate& b) {
    return std::make_tuple(a.added, !a.copy, sign * a.after, a.device) <
           std::make_tuple(b.added, !b.copy, sign * b.after, b.device);
  });
  return found;
}

Placer::Fit Placer::fit(AppId app, double share, DeviceId device) {
  Load load = fleet_.load(device);
  add(load, fleet_.part(app, device, share));
  std::optional<Fit> first;
  for (const profile::Device& setting : fleet_.settings(device)) {
    if (setting.discipline == profile::Discipline::kBatching &&
        std::any_of(load.parts.begin(), load.parts.end(),
                    [](const LoadPart& part) { return !part.profile->batch; })) {
      continue;
    }
    load.device = &setting;
    Fit result{check(load, judge_, options_.promise), setting, load};
    result.load.device = nullptr;
    if (result.finding.holds()) return result;
    if (!first) first = std::move(result);
  }
  if (!first) {
    first = Fit{{Breach::kNoModel, 0, 0, "the device batches and a model has no batch profile", {}},
                fleet_.device(device),
                load};
    first->load.device = nullptr;
  }
  return *std::move(first);
}

Obstacle Placer::obstacle_of(const Fit& fit, AppId newcomer, DeviceId device) {
  const Finding& finding = fit.finding;
  Obstacle obstacle = fact(fleet_, device, finding.breach);
  obstacle.by = finding.by;
  obstacle.detail = finding.detail;
  if (finding.breach != Breach::kLatency) return obstacle;
  const LoadPart& part = fit.load.parts[finding.part];
  obstacle.application = part.application->name;
  obstacle.percentile = part.application->limit.percentile;
  obstacle.limit_ms = part.application->limit.latency_ms;
  obstacle.allowed_ms = allowed_us(part, options_.promise) * 1e-3;
  if (finding.verdict.parts.empty()) {  // by its bounds
    obstacle.predicted_ms = obstacle.allowed_ms + finding.by * 1e-3;
    return obstacle;
  }
  const Reply& after = finding.verdict.parts[finding.part];
  obstacle.predicted_ms = after.percentile_us * 1e-3;
  obstacle.error_ms = after.error_us * 1e-3;
  // What the newcomer changes for the one whose limit breaks; for itself, everything.
  Reply before;
  if (part.application != &fleet_.application(newcomer)) {
    const Load now = fleet_.load(device);
    const std::size_t at = part_of(now, *part.application);
    if (auto verdict = judge_.judge(now); verdict && at < now.parts.size()) {
      before = verdict->parts[at];
    }
  }
  double most = -std::numeric_limits<double>::infinity();
  for (std::size_t t = 0; t < kTerms; ++t) {
    const double grown = after.terms_us[t] - before.terms_us[t];
    if (grown <= most) continue;
    most = grown;
    obstacle.term = static_cast<Term>(t);
  }
  obstacle.term_ms = most * 1e-3;
  return obstacle;
}

std::optional<Obstacle> Placer::known(AppId app, double share, DeviceId device) const {
  const LoadPart part = fleet_.part(app, device, share);
  for (const Refused& refused : refused_[index(device)]) {
    if (refused.version != fleet_.version(device)) continue;
    if (refused.copy == part.copy && refused.profile == part.profile &&
        part.rate_per_s() >= refused.rate_per_s && part.application->arrivals_s.empty() &&
        part.application->burstiness == profile::Burstiness{}) {
      return refused.obstacle;
    }
  }
  return std::nullopt;
}

void Placer::remember(AppId app, double share, DeviceId device, const Finding& finding,
                      const Obstacle& obstacle) {
  if (fleet_.device(device).may_batch) return;  // more work may make batches larger
  const LoadPart part = fleet_.part(app, device, share);
  const bool plain =
      part.application->arrivals_s.empty() && part.application->burstiness == profile::Burstiness{};
  const bool resident =
      finding.breach == Breach::kLatency && obstacle.application != part.application->name;
  if (!plain || !resident) return;
  auto& list = refused_[index(device)];
  std::erase_if(list, [&](const Refused& r) {
    return r.version != fleet_.version(device) ||
           (r.copy == part.copy && r.profile == part.profile && r.rate_per_s >= part.rate_per_s());
  });
  list.push_back({fleet_.version(device), part.copy, part.profile, part.rate_per_s(), obstacle});
}

Finding Placer::finding(DeviceId device) {
  return check(fleet_.load(device), judge_, options_.promise);
}

std::vector<Slack> Placer::slacks(DeviceId device) {
  const Load load = fleet_.load(device);
  std::vector<Slack> slacks;
  if (load.parts.empty()) return slacks;
  const auto verdict = judge_.judge(load);
  for (std::size_t i = 0; i < load.parts.size(); ++i) {
    const LoadPart& part = load.parts[i];
    const auto& limit = part.application->limit;
    Slack slack{part.application->name,
                load.device->name,
                part.share,
                limit.percentile,
                std::numeric_limits<double>::infinity(),
                0,
                limit.latency_ms,
                0,
                1};
    if (verdict) {
      const Reply& reply = verdict->parts[i];
      slack.predicted_ms = reply.percentile_us * 1e-3;
      slack.error_ms = reply.error_us * 1e-3;
      slack.late = reply.late;
    }
    slack.slack_ms = limit.latency_ms > 0 ? limit.latency_ms - slack.predicted_ms
                                          : std::numeric_limits<double>::infinity();
    slacks.push_back(std::move(slack));
  }
  return slacks;
}

std::size_t Placer::memory_bytes() const {
  std::size_t bytes = sizeof(*this);
  for (const auto& plan : plans_)
    bytes += sizeof(std::vector<Backup>) + plan.capacity() * sizeof(Backup);
  for (const auto& list : refused_)
    bytes += sizeof(std::vector<Refused>) + list.capacity() * sizeof(Refused);
  return bytes;
}

}  // namespace outboard::manage
