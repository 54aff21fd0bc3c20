// SPDX-License-Identifier: Apache-2.0
#include "manage/place/pack.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/manage/place/fixture.h"

namespace outboard::manage {
namespace {

using namespace test;

TEST(Pack, TakesManySmallOnesRatherThanALargeOne) {
  profile::Cluster c;
  c.devices = {device("n0", "k")};
  c.models = {model("m", "k", 10)};
  c.applications.push_back(app("a-large", "m", 45, 20));
  for (int i = 0; i < 5; ++i) c.applications.push_back(app("s" + std::to_string(i), "m", 10, 20));
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  PackOptions options;
  options.placer.promise.margin = 0;
  std::size_t told = 0;
  options.progress = [&](std::size_t done, std::size_t all) {
    ++told;
    EXPECT_LT(done, all);
  };
  const Packed packed = pack(fleet, judge, fleet.applications(), options);
  EXPECT_EQ(packed.placed.size(), 5U);
  ASSERT_EQ(packed.refused.size(), 1U);
  EXPECT_EQ(fleet.application(packed.refused[0]).name, "a-large");
  EXPECT_GT(told, 0U);
}

// Every assignment of a few applications to two devices, tried: what is the most that can be?
std::size_t most_by_trial(const profile::Cluster& cluster, const Promise& promise) {
  HandJudge judge;
  std::size_t most = 0;
  const auto n = cluster.applications.size();
  std::size_t codes = 1;
  for (std::size_t i = 0; i < n; ++i) codes *= 3;
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

// Nine tenths of the optimum on small random lists, and never more than it.
RC_GTEST_PROP(PackProperties, ComesNearTheOptimum, ()) {
  profile::Cluster c;
  c.devices = {device("n0", "k", 120), device("n1", "l", 150)};
  for (const char* name : {"p", "q"}) {
    for (const char* kind : {"k", "l"}) {
      c.models.push_back(model(name, kind, *rc::gen::inRange(2, 20), *rc::gen::inRange(0, 15),
                               *rc::gen::inRange(10, 100)));
    }
  }
  const int n = *rc::gen::inRange(1, 7);
  for (int i = 0; i < n; ++i) {
    c.applications.push_back(app("a" + std::to_string(i), *rc::gen::element<std::string>("p", "q"),
                                 *rc::gen::inRange(1, 30), *rc::gen::inRange(10, 80)));
  }
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  PackOptions options;
  options.placer.promise.margin = 0;
  const Packed packed = pack(fleet, judge, fleet.applications(), options);
  const std::size_t most = most_by_trial(c, options.placer.promise);
  RC_ASSERT(packed.placed.size() <= most);
  RC_ASSERT(packed.placed.size() + 1 >= most);
  RC_ASSERT(check(fleet.load(0), judge, options.placer.promise).holds());
  RC_ASSERT(check(fleet.load(1), judge, options.placer.promise).holds());
}

}  // namespace
}  // namespace outboard::manage
