// SPDX-License-Identifier: Apache-2.0
#include "manage/place/pack.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

namespace outboard::manage {
namespace {

// Least share of time that it takes of any device; infinity: none runs it.
double work(const Fleet& fleet, AppId app) {
  double least = std::numeric_limits<double>::infinity();
  for (DeviceId d = 0; d < fleet.devices(); ++d) {
    if (const auto* p = fleet.profile(app, d)) {
      least = std::min(least, fleet.application(app).rate_per_s * p->service.mean_us());
    }
  }
  return least;
}

// Response alone against the limit: how tight it is.
double tightness(const Fleet& fleet, AppId app) {
  double least = std::numeric_limits<double>::infinity();
  for (DeviceId d = 0; d < fleet.devices(); ++d) {
    if (const auto* p = fleet.profile(app, d)) least = std::min(least, p->service.mean_us());
  }
  const double limit = fleet.application(app).limit.latency_ms;
  return limit > 0 ? least / limit : 0;
}

using Orders = std::vector<std::vector<AppId>>;

Orders orders_of(const Fleet& fleet, const std::vector<AppId>& apps) {
  std::map<std::string, int> copies;
  for (AppId a : apps) ++copies[fleet.application(a).model];
  Orders orders;
  auto by = [&](auto key) {
    std::vector<AppId> order = apps;
    std::sort(order.begin(), order.end(), [&](AppId a, AppId b) {
      return std::make_tuple(key(a), fleet.application(a).name) <
             std::make_tuple(key(b), fleet.application(b).name);
    });
    orders.push_back(std::move(order));
  };
  by([&](AppId a) { return work(fleet, a); });
  by([&](AppId a) { return tightness(fleet, a); });
  by([&](AppId a) { return -tightness(fleet, a); });
  by([&](AppId a) {
    const auto& model = fleet.application(a).model;
    return std::make_tuple(-copies[model], model, work(fleet, a));
  });
  orders.push_back(apps);
  return orders;
}

std::size_t count_placed(const Fleet& fleet, const std::vector<AppId>& apps) {
  return static_cast<std::size_t>(
      std::count_if(apps.begin(), apps.end(), [&](AppId a) { return fleet.placed(a); }));
}

void place_rest(Fleet& fleet, Judge& judge, const std::vector<AppId>& order,
                const PlacerOptions& options) {
  Placer placer(fleet, judge, options);
  if (placer.reserve_all()) return;  // what is there already does not survive: nothing may be added
  for (AppId a : order) {
    if (!fleet.placed(a)) placer.admit(a);
  }
}

// One of the list out, and then all that now fit in; kept when that gains.
bool one_out_two_in(Fleet& fleet, Judge& judge, const std::vector<AppId>& apps,
                    const std::vector<AppId>& order, const PlacerOptions& options) {
  const std::size_t had = count_placed(fleet, apps);
  for (AppId out : apps) {
    if (!fleet.placed(out)) continue;
    Fleet copy = fleet;
    while (copy.placed(out)) copy.take(out, copy.where(out).front().device);
    // Others first, then the one that went.
    std::vector<AppId> others = order;
    std::erase(others, out);
    others.push_back(out);
    place_rest(copy, judge, others, options);
    if (count_placed(copy, apps) <= had) continue;
    fleet.roll_back(std::move(copy));
    return true;
  }
  return false;
}

}  // namespace

Packed pack(Fleet& fleet, Judge& judge, std::vector<AppId> apps, const PackOptions& options) {
  std::sort(apps.begin(), apps.end(), [&](AppId a, AppId b) {
    return fleet.application(a).name < fleet.application(b).name;
  });
  const Orders orders = orders_of(fleet, apps);
  const std::size_t steps = 2 * orders.size() + options.rounds;
  std::size_t step = 0;
  auto tell = [&] {
    if (options.progress) options.progress(step, steps);
    ++step;
  };
  Fleet best = fleet;
  std::size_t most = 0;
  const std::vector<AppId>* best_order = &orders.front();
  for (const bool tight : {true, false}) {
    for (const auto& order : orders) {
      tell();
      if (most == apps.size()) continue;
      Fleet copy = fleet;
      PlacerOptions placer = options.placer;
      placer.tight = tight;
      place_rest(copy, judge, order, placer);
      const std::size_t count = count_placed(copy, apps);
      if (count <= most && most > 0) continue;
      most = count;
      best = std::move(copy);
      best_order = &order;
    }
  }
  for (std::size_t round = 0; round < options.rounds; ++round) {
    tell();
    if (count_placed(best, apps) == apps.size()) break;
    PlacerOptions placer = options.placer;
    placer.moves = std::max(placer.moves, 1);
    place_rest(best, judge, *best_order, placer);
    if (!one_out_two_in(best, judge, apps, *best_order, options.placer)) break;
  }
  fleet.roll_back(std::move(best));
  Packed packed;
  for (AppId a : apps) (fleet.placed(a) ? packed.placed : packed.refused).push_back(a);
  return packed;
}

}  // namespace outboard::manage
