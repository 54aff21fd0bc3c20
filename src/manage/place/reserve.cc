// SPDX-License-Identifier: Apache-2.0
// Reserving for failure: for every device a plan of where its parts go when it is lost, such that
// every limit on every device that takes them still holds. A newcomer changes the plan of its own
// device (one part more to take in) and those that lead to its device (less room there); only these
// are checked, and made anew where they do not hold.
#include <algorithm>
#include <tuple>

#include "manage/place/placer.h"

namespace outboard::manage {
namespace {

std::size_t index(int id) { return static_cast<std::size_t>(id); }

bool leads_to(std::span<const Backup> plan, DeviceId target) {
  return std::any_of(plan.begin(), plan.end(),
                     [&](const Backup& b) { return b.to.device == target; });
}

// Two of a group that is kept apart.
bool clash(const Load& load) {
  for (std::size_t i = 0; i < load.parts.size(); ++i) {
    const std::string& group = load.parts[i].application->apart;
    if (group.empty()) continue;
    for (std::size_t k = 0; k < i; ++k) {
      if (load.parts[k].application->apart == group) return true;
    }
  }
  return false;
}

}  // namespace

std::span<const Backup> Placer::plan(DeviceId lost) const { return plans_[index(lost)]; }

Load Placer::load_when_lost(DeviceId target, std::span<const Backup> plan) const {
  Load load = fleet_.load(target);
  for (const Backup& b : plan) {
    if (b.to.device == target) add(load, fleet_.part(b.app, target, b.to.share));
  }
  return load;
}

std::optional<DeviceId> Placer::backup_for(AppId app, double share, DeviceId lost,
                                           std::span<const Backup> plan) {
  std::size_t judged = 0, screened = 0;
  for (const Candidate& candidate : candidates(app, share, nullptr)) {
    const DeviceId t = candidate.device;
    if (t == lost) continue;
    if (screened++ == options_.screened_most) break;
    Load load = load_when_lost(t, plan);
    add(load, fleet_.part(app, t, share));
    if (clash(load) || !check_bounds(load, judge_, options_.promise).holds()) {
      continue;
    }
    if (judged >= options_.judged_most) break;
    judged += judge_.cost(load);
    if (check(load, judge_, options_.promise).holds()) return t;
  }
  return std::nullopt;
}

std::optional<Obstacle> Placer::replan(DeviceId lost) {
  struct Displaced {
    double busy;
    AppId app;
    double share;
  };
  std::vector<Displaced> parts;
  for (AppId app : fleet_.on(lost)) {
    for (const Placed& p : fleet_.where(app)) {
      if (p.device != lost) continue;
      const LoadPart part = fleet_.part(app, lost, p.share);
      parts.push_back({part.rate_per_s() * part.profile->service.mean_us(), app, p.share});
    }
  }
  // The heaviest first: the light ones find room between.
  std::sort(parts.begin(), parts.end(), [&](const Displaced& a, const Displaced& b) {
    return std::make_tuple(-a.busy, fleet_.application(a.app).name) <
           std::make_tuple(-b.busy, fleet_.application(b.app).name);
  });
  std::vector<Backup> plan;
  for (const Displaced& part : parts) {
    const auto target = backup_for(part.app, part.share, lost, plan);
    if (!target) {
      Obstacle obstacle;
      obstacle.breach = Breach::kReserve;
      obstacle.application = fleet_.application(part.app).name;
      obstacle.lost = fleet_.device(lost).name;
      return obstacle;
    }
    plan.push_back({part.app, {*target, part.share}});
  }
  plans_[index(lost)] = std::move(plan);
  return std::nullopt;
}

std::optional<Obstacle> Placer::renew(DeviceId device) {
  // Its own plan: what is new finds a place beside what is planned already, or all is planned anew.
  auto& own = plans_[index(device)];
  const std::vector<Backup> before = own;
  bool extended = true;
  for (AppId app : fleet_.on(device)) {
    const bool planned =
        std::any_of(own.begin(), own.end(), [&](const Backup& b) { return b.app == app; });
    if (planned) continue;
    double share = 0;
    for (const Placed& p : fleet_.where(app)) share = p.device == device ? p.share : share;
    const auto target = backup_for(app, share, device, own);
    if (!target) {
      extended = false;
      break;
    }
    own.push_back({app, {*target, share}});
  }
  if (!extended) {
    own = before;
    if (auto obstacle = replan(device)) return obstacle;
  }
  for (DeviceId lost = 0; lost < fleet_.devices(); ++lost) {
    if (lost == device || !leads_to(plans_[index(lost)], device)) continue;
    const Load then = load_when_lost(device, plans_[index(lost)]);
    if (!clash(then) && check(then, judge_, options_.promise).holds()) continue;
    if (auto obstacle = replan(lost)) return obstacle;
  }
  return std::nullopt;
}

std::optional<Obstacle> Placer::commit(AppId app, Placed where, const profile::Device& setting) {
  const profile::Device old = fleet_.device(where.device);
  // A setting stands for the device that is in the fleet: only these two change.
  fleet_.put(app, where);
  fleet_.choose_setting(where.device, setting);
  if (options_.survive == 0) return std::nullopt;
  auto plans = plans_;
  auto obstacle = renew(where.device);
  if (!obstacle) return std::nullopt;
  plans_ = std::move(plans);
  fleet_.take(app, where.device);
  fleet_.choose_setting(where.device, old);
  obstacle->device = old.name;
  return obstacle;
}

void Placer::forget_plans_of(AppId app, DeviceId device) {
  std::erase_if(plans_[index(device)], [&](const Backup& b) { return b.app == app; });
}

std::optional<Obstacle> Placer::reserve_all() {
  if (options_.survive == 0) return std::nullopt;
  for (DeviceId d = 0; d < fleet_.devices(); ++d) {
    if (auto obstacle = replan(d)) {
      obstacle->device = fleet_.device(d).name;
      return obstacle;
    }
  }
  return std::nullopt;
}

void Placer::remove(AppId app) {
  for (auto& plan : plans_) {
    std::erase_if(plan, [&](const Backup& b) { return b.app == app; });
  }
  fleet_.remove(app);
}

}  // namespace outboard::manage
