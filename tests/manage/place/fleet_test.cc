// SPDX-License-Identifier: Apache-2.0
#include "manage/place/fleet.h"

#include <gtest/gtest.h>

#include "manage/place/check.h"
#include "tests/manage/place/fixture.h"

namespace outboard::manage {
namespace {

using namespace test;

profile::Cluster two_devices() {
  profile::Cluster c;
  c.devices = {device("b", "tpu", 100), device("a", "gpu", 1000)};
  c.models = {model("m", "tpu", 10, 5, 40), model("m", "gpu", 4, 0, 300), model("n", "tpu", 20)};
  c.models[0].memory_per_application_bytes = 7;
  c.applications = {app("y", "m", 10, 100), app("x", "m", 5, 100), app("z", "n", 1, 100)};
  return c;
}

TEST(Fleet, KeepsDevicesAndPartsByName) {
  Fleet fleet = fleet_of(two_devices());
  EXPECT_EQ(fleet.device(0).name, "a");
  const AppId x = *fleet.find("x"), y = *fleet.find("y"), z = *fleet.find("z");
  fleet.put(z, {1, 1});
  fleet.put(y, {1, 1});
  fleet.put(x, {1, 0.5});
  ASSERT_EQ(fleet.load(1).parts.size(), 3U);
  EXPECT_EQ(fleet.load(1).parts[0].application->name, "x");
  EXPECT_EQ(fleet.load(1).parts[0].rate_per_s(), 2.5);
  EXPECT_EQ(fleet.load(1).parts[2].application->name, "z");
  EXPECT_EQ(fleet.profile(z, 0), nullptr);
}

TEST(Fleet, CountsASharedModelOnceAndAnOwnCopyEachTime) {
  profile::Cluster c = two_devices();
  Fleet fleet = fleet_of(c);
  fleet.put(*fleet.find("x"), {1, 1});
  fleet.put(*fleet.find("y"), {1, 1});
  EXPECT_EQ(memory_bytes(fleet.load(1)), 40U + 2 * 7U);
  for (auto& a : c.applications) a.share_model = false;
  Fleet own = fleet_of(c);
  own.put(*own.find("x"), {1, 1});
  own.put(*own.find("y"), {1, 1});
  EXPECT_EQ(memory_bytes(own.load(1)), 2 * 47U);
}

TEST(Fleet, UtilisationCountsSwapsBetweenCopiesOnly) {
  profile::Cluster c = two_devices();
  Fleet fleet = fleet_of(c);
  fleet.put(*fleet.find("x"), {1, 1});
  fleet.put(*fleet.find("y"), {1, 1});
  EXPECT_DOUBLE_EQ(utilisation(fleet.load(1)), 0.15);  // 15/s of 10 ms, never a swap
  for (auto& a : c.applications) a.share_model = false;
  Fleet own = fleet_of(c);
  own.put(*own.find("x"), {1, 1});
  own.put(*own.find("y"), {1, 1});
  // x finds y before it with 10/15, y finds x with 5/15: (5 * 2/3 + 10 * 1/3) * 5 ms more.
  EXPECT_NEAR(utilisation(own.load(1)), 0.15 + (5 * 2. / 3 + 10. / 3) * 0.005, 1e-12);
}

TEST(Fleet, WritesWhereEverythingIs) {
  Fleet fleet = fleet_of(two_devices());
  fleet.put(*fleet.find("x"), {0, 0.25});
  fleet.put(*fleet.find("x"), {1, 0.75});
  fleet.put(*fleet.find("z"), {1, 1});
  const profile::Cluster c = fleet.cluster();
  ASSERT_EQ(c.applications.size(), 3U);
  EXPECT_EQ(c.applications[0].replicas, (std::vector<profile::Replica>{{"a", 0.25}, {"b", 0.75}}));
  EXPECT_EQ(c.applications[2].device, "b");
  const Fleet again = fleet_of(c);
  EXPECT_EQ(again.where(*again.find("x")).size(), 2U);
  EXPECT_EQ(again.cluster().applications, c.applications);
}

TEST(Fleet, ANumberIsUsedAgainAndNothingOfItsFormerOwnerStays) {
  Fleet fleet = fleet_of(two_devices());
  const AppId x = *fleet.find("x");
  fleet.put(x, {1, 1});
  fleet.remove(x);
  EXPECT_FALSE(fleet.find("x"));
  EXPECT_TRUE(fleet.on(1).empty());
  const auto w = fleet.add(app("w", "n", 1, 50));
  ASSERT_TRUE(w);
  EXPECT_EQ(*w, x);
  EXPECT_FALSE(fleet.placed(*w));
  EXPECT_FALSE(fleet.add(app("w", "n", 1, 50)));
  EXPECT_FALSE(fleet.add(app("v", "nothing", 1, 50)));
}

TEST(Load, ThinsATraceEvenly) {
  std::vector<double> trace;
  for (int i = 0; i < 1000; ++i) trace.push_back(i);
  const auto third = thinned(trace, 1. / 3);
  EXPECT_NEAR(static_cast<double>(third.size()), 333, 2);
  double longest = 0;
  for (std::size_t i = 1; i < third.size(); ++i)
    longest = std::max(longest, third[i] - third[i - 1]);
  EXPECT_LE(longest, 5);
  EXPECT_EQ(thinned(trace, 1), trace);
  EXPECT_EQ(thinned(profile::Burstiness{9, {{1, 5}}}, 0.25), (profile::Burstiness{3, {{1, 2}}}));
}

}  // namespace
}  // namespace outboard::manage
