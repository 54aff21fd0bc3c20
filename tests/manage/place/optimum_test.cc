// SPDX-License-Identifier: Apache-2.0
// The exact optimum against trying everything, so that what is measured against it is measured
// against the truth.
#include "bench/placement/optimum.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "manage/place/pack.h"
#include "tests/manage/place/fixture.h"

namespace outboard::manage {
namespace {

using namespace test;

std::size_t most_by_trial(const profile::Cluster& cluster, const Promise& promise) {
  HandJudge judge;
  std::size_t most = 0, codes = 1;
  for (std::size_t i = 0; i < cluster.applications.size(); ++i) codes *= 3;
  for (std::size_t code = 0; code < codes; ++code) {
    Fleet fleet = fleet_of(cluster);
    std::size_t rest = code, placed = 0;
    for (AppId id : fleet.applications()) {
      if (rest % 3 > 0) {
        fleet.put(id, {static_cast<DeviceId>(rest % 3 - 1), 1});
        ++placed;
      }
      rest /= 3;
    }
    if (placed > most && check(fleet.load(0), judge, promise).holds() &&
        check(fleet.load(1), judge, promise).holds()) {
      most = placed;
    }
  }
  return most;
}

RC_GTEST_PROP(Optimum, IsWhatTryingEverythingFinds, ()) {
  profile::Cluster c;
  const std::string second = *rc::gen::element<std::string>("k", "l");
  c.devices = {device("n0", "k", 120), device("n1", second, 120)};
  for (const char* name : {"p", "q"}) {
    for (const char* kind : {"k", "l"}) {
      c.models.push_back(model(name, kind, *rc::gen::inRange(2, 20), *rc::gen::inRange(0, 15),
                               *rc::gen::inRange(10, 100)));
    }
  }
  const int n = *rc::gen::inRange(1, 6);
  for (int i = 0; i < n; ++i) {
    c.applications.push_back(app("a" + std::to_string(i), *rc::gen::element<std::string>("p", "q"),
                                 *rc::gen::inRange(1, 30), *rc::gen::inRange(10, 80)));
  }
  Promise promise;
  promise.margin = 0;
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  const bench::Optimum best = bench::optimum(fleet, judge, promise);
  RC_ASSERT(best.proven);
  RC_ASSERT(best.placed == most_by_trial(c, promise));
}

}  // namespace
}  // namespace outboard::manage
