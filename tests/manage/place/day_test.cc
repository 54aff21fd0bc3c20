// SPDX-License-Identifier: Apache-2.0
#include "manage/place/day.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/manage/place/fixture.h"

namespace outboard::manage {
namespace {

using namespace test;

profile::Cluster two() {
  profile::Cluster c;
  c.devices = {device("n0", "k"), device("n1", "k")};
  c.models = {model("m", "k", 10)};
  c.models[0].load = profile::Distribution::constant(9e6);
  c.applications = {app("a", "m", 20, 60), app("b", "m", 10, 60)};
  c.applications[0].device = "n0";
  c.applications[1].device = "n1";
  return c;
}

DayOptions hour() {
  DayOptions options;
  options.length_s = 3600;
  return options;
}

TEST(Day, AQuietDayBreaksNoLimitAndCountsEveryRequest) {
  Fleet fleet = fleet_of(two());
  HandJudge judge;
  Placer placer(fleet, judge, {});
  const auto day = simulate_day(placer, hour());
  ASSERT_TRUE(day) << day.error().message;
  ASSERT_EQ(day->applications.size(), 2U);
  const AppDay& a = day->applications[0];
  EXPECT_NEAR(static_cast<double>(a.requests), 72000, 5 * std::sqrt(72000));
  EXPECT_LT(a.late_share(), 0.01);  // M/D/1 at 0.2: 60 ms is far in the tail
  EXPECT_TRUE(a.broken.empty());
  EXPECT_EQ(a.lost, 0U);
}

TEST(Day, WithoutAPlanALostDeviceLosesEverythingUntilItIsBack) {
  Fleet fleet = fleet_of(two());
  HandJudge judge;
  Placer placer(fleet, judge, {});
  DayOptions options = hour();
  options.failures = {{"n0", 900, 1500}};
  const auto day = simulate_day(placer, options);
  ASSERT_TRUE(day);
  const AppDay& a = day->applications[0];
  EXPECT_NEAR(static_cast<double>(a.lost), 600 * 20, 5 * std::sqrt(12000));
  ASSERT_EQ(a.broken.size(), 1U);
  EXPECT_EQ(a.broken[0].from_s, 900);
  EXPECT_EQ(a.broken[0].to_s, 1500);
  EXPECT_NEAR(a.broken[0].late_share, 1, 1e-9);
  EXPECT_TRUE(day->applications[1].broken.empty());
}

TEST(Day, WithAPlanOnlyTheTimeUntilTheModelIsLoadedIsLost) {
  Fleet fleet = fleet_of(two());
  HandJudge judge;
  PlacerOptions with;
  with.survive = 1;
  Placer placer(fleet, judge, with);
  ASSERT_FALSE(placer.reserve_all());
  DayOptions options = hour();
  options.failures = {{"n0", 900, 1500}};
  const auto day = simulate_day(placer, options);
  ASSERT_TRUE(day);
  // A second to notice and nine to load, at 20/s, and what was being served.
  EXPECT_NEAR(static_cast<double>(day->applications[0].lost), 200, 5 * std::sqrt(200));
  EXPECT_LT(day->applications[0].late_share(), 0.01);
}

TEST(Day, ABurstBreaksTheLimitOfAllWhoShareTheDeviceAndOnlyThen) {
  profile::Cluster c = two();
  c.applications[1].device = "n0";
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  Placer placer(fleet, judge, {});
  DayOptions options = hour();
  options.bursts = {{"a", 1200, 1800, 6}};  // 120/s of 10 ms
  const auto day = simulate_day(placer, options);
  ASSERT_TRUE(day);
  for (const AppDay& a : day->applications) {
    ASSERT_EQ(a.broken.size(), 1U) << a.application;
    EXPECT_EQ(a.broken[0].from_s, 1200);
    EXPECT_GE(a.broken[0].to_s, 1800);
    EXPECT_LE(a.broken[0].to_s, 2400);  // the queue drains
  }
}

TEST(Day, ReplicasTakeTheirSharesAndTheSeedDecides) {
  profile::Cluster c = two();
  c.applications.resize(1);
  c.applications[0].device.clear();
  c.applications[0].replicas = {{"n0", 0.25}, {"n1", 0.75}};
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  Placer placer(fleet, judge, {});
  DayOptions options = hour();
  options.failures = {{"n0", 0, 3600}};
  const auto day = simulate_day(placer, options);
  ASSERT_TRUE(day);
  const AppDay& a = day->applications[0];
  EXPECT_NEAR(static_cast<double>(a.lost) / static_cast<double>(a.requests), 0.25, 0.01);
  const auto again = simulate_day(placer, options);
  EXPECT_EQ(again->applications[0].late, a.late);
  options.seed = 2;
  EXPECT_NE(simulate_day(placer, options)->applications[0].requests, a.requests);
}

TEST(Day, ABadEventIsASentence) {
  Fleet fleet = fleet_of(two());
  HandJudge judge;
  Placer placer(fleet, judge, {});
  DayOptions options = hour();
  options.failures = {{"n9", 0, 10}};
  EXPECT_EQ(simulate_day(placer, options).error().message,
            "failing device (n9) is not among the devices");
  options.failures = {{"n0", 10, 10}};
  EXPECT_FALSE(simulate_day(placer, options));
  options.failures.clear();
  options.bursts = {{"z", 0, 10, 2}};
  EXPECT_EQ(simulate_day(placer, options).error().message,
            "bursting application (z) is not among the applications");
}

}  // namespace
}  // namespace outboard::manage
