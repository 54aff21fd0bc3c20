// SPDX-License-Identifier: Apache-2.0
// One decision: whole, else split over several devices, else after moves that make room.
#include <algorithm>
#include <tuple>

#include "manage/place/placer.h"

namespace outboard::manage {
namespace {

constexpr double kSharesOfUnevenSplit = 12;
constexpr std::size_t kDevicesOfUnevenSplit = 8;

// Nearest to a place first: a limit missed by little, then a reserve, then the facts.
double distance(const Obstacle& o) {
  switch (o.breach) {
    case Breach::kNone:
      return 0;
    case Breach::kLatency:
      return (o.predicted_ms + o.error_ms) / o.allowed_ms;
    case Breach::kReserve:
      return 1e3;
    case Breach::kUtilisation:
      return 1e6 * (1 + o.by);
    case Breach::kMemory:
      return 1e9 * (1 + o.by);
    case Breach::kNoModel:
      return 1e26;
    case Breach::kApart:
      return 1e27;
    case Breach::kPinned:
      return 1e28;
    case Breach::kNoProfile:
      return 1e29;
  }
  return 1e30;
}

void sort_obstacles(std::vector<Obstacle>& obstacles) {
  std::sort(obstacles.begin(), obstacles.end(), [](const Obstacle& a, const Obstacle& b) {
    return std::make_tuple(distance(a), a.device, a.application, a.by) <
           std::make_tuple(distance(b), b.device, b.application, b.by);
  });
  std::vector<Obstacle> first;
  for (Obstacle& o : obstacles) {
    const bool there = std::any_of(first.begin(), first.end(),
                                   [&](const Obstacle& f) { return f.device == o.device; });
    if (!there) first.push_back(std::move(o));
  }
  obstacles = std::move(first);
}

}  // namespace

Decision Placer::admit(AppId app) {
  Decision decision;
  decision.application = fleet_.application(app).name;
  decision.placed = place_share(app, 1, {}, decision) || place_split(app, decision);
  if (!decision.placed) {
    sort_obstacles(decision.obstacles);
    decision.placed = place_moving(app, decision);
  }
  describe(decision, app);
  return decision;
}

Decision Placer::decide(AppId app) {
  Fleet before = fleet_;
  auto plans = plans_;
  Decision decision = admit(app);
  if (decision.placed) {
    fleet_.roll_back(std::move(before));
    plans_ = std::move(plans);
  }
  return decision;
}

bool Placer::place_share(AppId app, double share, std::span<const DeviceId> not_here,
                         Decision& decision) {
  std::size_t judged = 0, screened = 0;
  for (const Candidate& candidate : candidates(app, share, &decision.obstacles)) {
    const DeviceId d = candidate.device;
    if (std::find(not_here.begin(), not_here.end(), d) != not_here.end()) continue;
    if (!fleet_.device(d).may_batch) {
      Fit quick{{}, fleet_.device(d), fleet_.load(d)};
      add(quick.load, fleet_.part(app, d, share));
      if (screened++ == options_.screened_most) break;
      ++decision.screened;
      quick.finding = check_bounds(quick.load, judge_, options_.promise);
      if (!quick.finding.holds()) {
        decision.obstacles.push_back(obstacle_of(quick, app, d));
        remember(app, share, d, quick.finding, decision.obstacles.back());
        continue;
      }
    }
    if (judged >= options_.judged_most) break;
    Load load = fleet_.load(d);
    add(load, fleet_.part(app, d, share));
    judged += judge_.cost(load);
    ++decision.judged;
    const Fit found = fit(app, share, d);
    if (!found.finding.holds()) {
      decision.obstacles.push_back(obstacle_of(found, app, d));
      remember(app, share, d, found.finding, decision.obstacles.back());
      continue;
    }
    const bool other_setting = !(found.setting == fleet_.device(d));
    if (auto obstacle = commit(app, {d, share}, found.setting)) {
      decision.obstacles.push_back(*std::move(obstacle));
      continue;
    }
    if (other_setting) decision.settings.push_back(found.setting);
    return true;
  }
  return false;
}

bool Placer::place_split(AppId app, Decision& decision) {
  const int most = std::min(fleet_.application(app).max_replicas, fleet_.devices());
  if (most < 2) return false;
  const Fleet before = fleet_;
  const auto plans = plans_;
  for (int n = 2; n <= most; ++n) {
    std::vector<DeviceId> taken;
    bool all = true;
    for (int k = 0; k < n && all; ++k) {
      all = place_share(app, 1.0 / n, taken, decision);
      for (const Placed& p : fleet_.where(app)) taken.push_back(p.device);
    }
    if (all) return true;
    fleet_.roll_back(before);
    plans_ = plans;
    decision.settings.clear();
  }
  if (place_uneven(app, decision)) return true;
  fleet_.roll_back(before);
  plans_ = plans;
  decision.settings.clear();
  return false;
}

// As much as each of the likeliest devices can take, in twelfths; the largest shares first.
bool Placer::place_uneven(AppId app, Decision& decision) {
  struct Room {
    DeviceId device;
    int twelfths;
  };
  std::vector<Room> rooms;
  for (const Candidate& c : candidates(app, 1 / kSharesOfUnevenSplit, nullptr)) {
    if (rooms.size() == kDevicesOfUnevenSplit) break;
    int fits = 0, fails = static_cast<int>(kSharesOfUnevenSplit);
    while (fails - fits > 1) {
      const int middle = (fits + fails) / 2;
      ++decision.judged;
      const bool holds = fit(app, middle / kSharesOfUnevenSplit, c.device).finding.holds();
      (holds ? fits : fails) = middle;
    }
    if (fits > 0) rooms.push_back({c.device, fits});
  }
  std::sort(rooms.begin(), rooms.end(), [](const Room& a, const Room& b) {
    return std::make_tuple(-a.twelfths, a.device) < std::make_tuple(-b.twelfths, b.device);
  });
  int left = static_cast<int>(kSharesOfUnevenSplit);
  int replicas = 0;
  for (const Room& room : rooms) {
    if (left == 0 || replicas == fleet_.application(app).max_replicas) break;
    const int take = std::min(left, room.twelfths);
    const double share = take / kSharesOfUnevenSplit;
    // Less than what fits is not sure to fit (rarer requests find the model swapped out).
    const Fit found = fit(app, share, room.device);
    ++decision.judged;
    if (!found.finding.holds()) continue;
    const bool other_setting = !(found.setting == fleet_.device(room.device));
    if (commit(app, {room.device, share}, found.setting)) continue;
    if (other_setting) decision.settings.push_back(found.setting);
    left -= take;
    ++replicas;
  }
  return left == 0;
}

void Placer::describe(Decision& decision, AppId app) {
  if (!decision.placed) {
    // The nearest deserves the whole answer: bounds name no term.
    for (std::size_t i = 0; i < std::min<std::size_t>(1, decision.obstacles.size()); ++i) {
      Obstacle& o = decision.obstacles[i];
      if (o.breach != Breach::kLatency || o.term_ms != 0) continue;
      const DeviceId d = fleet_.device_named(o.device);
      const Fit found = fit(app, 1, d);
      ++decision.judged;
      if (!found.finding.holds()) o = obstacle_of(found, app, d);
    }
    sort_obstacles(decision.obstacles);
    return;
  }
  decision.obstacles.clear();
  std::vector<DeviceId> touched;
  for (const Placed& p : fleet_.where(app)) {
    decision.where.push_back({fleet_.device(p.device).name, p.share});
    touched.push_back(p.device);
  }
  for (const Move& m : decision.moves) {
    touched.push_back(fleet_.device_named(m.to));
    touched.push_back(fleet_.device_named(m.from));
  }
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  for (DeviceId d : touched) {
    for (Slack& slack : slacks(d)) decision.slacks.push_back(std::move(slack));
  }
}

}  // namespace outboard::manage
