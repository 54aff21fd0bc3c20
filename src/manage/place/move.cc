// SPDX-License-Identifier: Apache-2.0
// Moves: to make room for a newcomer, and to empty devices. Each is checked on the state that it
// meets before it is made, so that all limits hold after every single one of them.
#include <algorithm>
#include <tuple>

#include "manage/place/placer.h"

namespace outboard::manage {
namespace {

constexpr std::size_t kDevicesTried = 16;
constexpr std::size_t kChecksOfMoves = 600;

double share_on(const Fleet& fleet, AppId app, DeviceId device) {
  for (const Placed& p : fleet.where(app)) {
    if (p.device == device) return p.share;
  }
  return 0;
}

bool is_on(const Fleet& fleet, AppId app, DeviceId device) {
  return share_on(fleet, app, device) > 0;
}

}  // namespace

std::optional<DeviceId> Placer::home_for(AppId app, double share, DeviceId not_here, bool used_only,
                                         std::size_t& budget) {
  for (const Candidate& candidate : candidates(app, share, nullptr)) {
    const DeviceId d = candidate.device;
    if (d == not_here || is_on(fleet_, app, d) || (used_only && fleet_.on(d).empty())) continue;
    Load load = fleet_.load(d);
    add(load, fleet_.part(app, d, share));
    if (!check_bounds(load, judge_, options_.promise).holds()) continue;
    if (budget == 0) return std::nullopt;
    --budget;
    if (check(load, judge_, options_.promise).holds()) return d;
  }
  return std::nullopt;
}

bool Placer::move(AppId app, DeviceId from, DeviceId to, std::vector<Move>& moves) {
  const double share = share_on(fleet_, app, from);
  if (commit(app, {to, share}, fleet_.device(to))) return false;
  fleet_.take(app, from);
  forget_plans_of(app, from);
  moves.push_back(
      {fleet_.application(app).name, fleet_.device(from).name, fleet_.device(to).name, share});
  return true;
}

bool Placer::move_off(AppId app, DeviceId device, std::span<const AppId> off, Decision& decision,
                      std::size_t& budget) {
  // Would the newcomer fit without them?
  Load load = fleet_.load(device);
  std::erase_if(load.parts, [&](const LoadPart& part) {
    return std::any_of(off.begin(), off.end(),
                       [&](AppId id) { return part.application == &fleet_.application(id); });
  });
  add(load, fleet_.part(app, device, 1));
  if (!check_bounds(load, judge_, options_.promise).holds()) return false;
  if (budget == 0) return false;
  --budget;
  ++decision.judged;
  if (!check(load, judge_, options_.promise).holds()) return false;
  Fleet before = fleet_;
  auto plans = plans_;
  std::vector<Move> moves;
  for (AppId id : off) {
    const auto home = home_for(id, share_on(fleet_, id, device), device, false, budget);
    if (!home || !move(id, device, *home, moves)) {
      fleet_.roll_back(std::move(before));
      plans_ = std::move(plans);
      return false;
    }
  }
  // A home may have been refused to one because of the other: the device itself only got emptier.
  if (commit(app, {device, 1}, fleet_.device(device))) {
    fleet_.roll_back(std::move(before));
    plans_ = std::move(plans);
    return false;
  }
  decision.moves = std::move(moves);
  return true;
}

bool Placer::place_moving(AppId app, Decision& decision) {
  if (options_.moves < 1) return false;
  std::vector<DeviceId> devices;
  for (const Obstacle& o : decision.obstacles) {
    const bool room = o.breach == Breach::kLatency || o.breach == Breach::kMemory ||
                      o.breach == Breach::kUtilisation || o.breach == Breach::kReserve;
    if (room && devices.size() < kDevicesTried) devices.push_back(fleet_.device_named(o.device));
  }
  std::size_t budget = kChecksOfMoves;
  auto movable = [&](DeviceId d) {
    std::vector<AppId> ids;
    for (AppId id : fleet_.on(d)) {
      if (fleet_.application(id).movable) ids.push_back(id);
    }
    return ids;
  };
  // Fewest moves first. More than two at once is asked for rarely and grows as the power.
  for (DeviceId d : devices) {
    for (AppId id : movable(d)) {
      const AppId off[] = {id};
      if (move_off(app, d, off, decision, budget)) return true;
    }
  }
  for (DeviceId d : devices) {
    if (options_.moves < 2) break;
    const auto ids = movable(d);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      for (std::size_t k = i + 1; k < ids.size(); ++k) {
        const AppId off[] = {ids[i], ids[k]};
        if (move_off(app, d, off, decision, budget)) return true;
      }
    }
  }
  return false;
}

std::vector<Move> Placer::defragment(int most) {
  std::vector<Move> moves;
  for (bool again = true; again;) {
    again = false;
    std::vector<std::tuple<std::size_t, double, DeviceId>> used;
    for (DeviceId d = 0; d < fleet_.devices(); ++d) {
      if (!fleet_.on(d).empty()) {
        used.emplace_back(fleet_.on(d).size(), utilisation(fleet_.load(d)), d);
      }
    }
    std::sort(used.begin(), used.end());
    for (const auto& [count, busy, d] : used) {
      if (moves.size() + count > static_cast<std::size_t>(std::max(0, most))) continue;
      Fleet before = fleet_;
      auto plans = plans_;
      std::vector<Move> these;
      std::size_t budget = kChecksOfMoves;
      const std::vector<AppId> ids(fleet_.on(d).begin(), fleet_.on(d).end());
      again = std::all_of(ids.begin(), ids.end(), [&](AppId id) {
        if (!fleet_.application(id).movable) return false;
        const auto home = home_for(id, share_on(fleet_, id, d), d, true, budget);
        return home && move(id, d, *home, these);
      });
      if (again) {
        moves.insert(moves.end(), these.begin(), these.end());
        break;
      }
      fleet_.roll_back(std::move(before));
      plans_ = std::move(plans);
    }
  }
  return moves;
}

}  // namespace outboard::manage
