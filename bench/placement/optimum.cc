// SPDX-License-Identifier: Apache-2.0
#include "bench/placement/optimum.h"

#include <coin/Cbc_C_Interface.h>

#include <bit>

namespace outboard::bench {
namespace {

using manage::AppId;
using manage::DeviceId;

struct Column {
  unsigned set;  // bit i: the i-th application
  int group;
};

// Devices of one kind and shape are one group with a count.
struct Group {
  DeviceId device;
  int count;
};

std::vector<Group> groups_of(const manage::Fleet& fleet) {
  std::vector<Group> groups;
  for (DeviceId d = 0; d < fleet.devices(); ++d) {
    profile::Device shape = fleet.device(d);
    bool known = false;
    for (Group& g : groups) {
      shape.name = fleet.device(g.device).name;
      if (shape == fleet.device(g.device)) {
        ++g.count;
        known = true;
        break;
      }
    }
    if (!known) groups.push_back({d, 1});
  }
  return groups;
}

bool feasible(const manage::Fleet& fleet, manage::Judge& judge, const manage::Promise& promise,
              const std::vector<AppId>& apps, unsigned set, DeviceId device) {
  manage::Load load = fleet.load(device);
  for (std::size_t i = 0; i < apps.size(); ++i) {
    if (!(set >> i & 1U)) continue;
    if (!fleet.profile(apps[i], device)) return false;
    manage::add(load, fleet.part(apps[i], device, 1));
  }
  return manage::check_bounds(load, judge, promise, false).holds() &&
         manage::check(load, judge, promise).holds();
}

}  // namespace

Optimum optimum(manage::Fleet& fleet, manage::Judge& judge, const manage::Promise& promise) {
  const std::vector<AppId> apps = fleet.applications();
  const std::vector<Group> groups = groups_of(fleet);
  std::vector<Column> columns;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (unsigned set = 1; set < 1U << apps.size(); ++set) {
      if (feasible(fleet, judge, promise, apps, set, groups[g].device)) {
        columns.push_back({set, static_cast<int>(g)});
      }
    }
  }
  // Column-wise: rows 0..n-1 are applications, then one a group.
  std::vector<CoinBigIndex> start{0};
  std::vector<int> index;
  std::vector<double> value, gain, column_low, column_high;
  for (const Column& c : columns) {
    for (std::size_t i = 0; i < apps.size(); ++i) {
      if (c.set >> i & 1U) index.push_back(static_cast<int>(i));
    }
    index.push_back(static_cast<int>(apps.size()) + c.group);
    start.push_back(static_cast<CoinBigIndex>(index.size()));
    gain.push_back(std::popcount(c.set));
    column_low.push_back(0);
    column_high.push_back(1);
  }
  value.assign(index.size(), 1);
  // Devices of a group may hold different sets only: an application is in one, so no set twice.
  std::vector<double> row_low(apps.size() + groups.size(), 0), row_high(apps.size(), 1);
  for (const Group& g : groups) row_high.push_back(g.count);
  Cbc_Model* model = Cbc_newModel();
  Cbc_setParameter(model, "logLevel", "0");
  Cbc_loadProblem(model, static_cast<int>(columns.size()), static_cast<int>(row_high.size()),
                  start.data(), index.data(), value.data(), column_low.data(), column_high.data(),
                  gain.data(), row_low.data(), row_high.data());
  for (int i = 0; i < static_cast<int>(columns.size()); ++i) Cbc_setInteger(model, i);
  Cbc_setObjSense(model, -1);
  Cbc_solve(model);
  Optimum result;
  result.feasible_sets = columns.size();
  result.proven = Cbc_isProvenOptimal(model) == 1;
  result.placed = static_cast<std::size_t>(Cbc_getObjValue(model) + 0.5);
  Cbc_deleteModel(model);
  return result;
}

}  // namespace outboard::bench
