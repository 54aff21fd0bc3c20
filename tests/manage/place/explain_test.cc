// SPDX-License-Identifier: Apache-2.0
#include "manage/place/explain.h"

#include <gtest/gtest.h>

#include "manage/place/capacity.h"
#include "tests/manage/place/fixture.h"

namespace outboard::manage {
namespace {

using namespace test;

PlacerOptions exactly() {
  PlacerOptions options;
  options.promise.margin = 0;
  return options;
}

// One slow device with a resident of 20/s and 10 ms: 12.5 ms at p95.
profile::Cluster cluster() {
  profile::Cluster c;
  c.devices = {device("n0", "k")};
  c.models = {model("m", "k", 10), model("m", "fast", 1)};
  c.applications = {app("a", "m", 20, 20)};
  c.applications[0].device = "n0";
  return c;
}

TEST(Explain, SaysTheSlackOfEveryResident) {
  Fleet fleet = fleet_of(cluster());
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  const std::string text = sentences(placer.admit(*fleet.add(app("b", "m", 20, 18))));
  EXPECT_EQ(text,
            "b is on n0.\n"
            "b on n0: p95 16.7 ms, 1.3 ms below its limit (18 ms).\n"
            "a on n0: p95 16.7 ms, 3.3 ms below its limit (20 ms).");
}

TEST(Explain, ARefusalSaysWhoseLimitByHowMuchWhyAndWhatWouldFit) {
  Fleet fleet = fleet_of(cluster());
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  const AppId b = *fleet.add(app("b", "m", 40, 100));
  Decision d = placer.admit(b);
  d.advice = advise(placer, b, d);
  // At 20 + x per s: 10 / (1 - u) = 20 at u = 0.5, so x = 30.
  EXPECT_NEAR(d.advice->highest_rate_per_s, 30, 0.02);
  EXPECT_LE(d.advice->highest_rate_per_s, 30);
  EXPECT_EQ(d.advice->loosest_limit_ms, 0);  // it is another's limit that breaks
  EXPECT_EQ(d.advice->idle_kinds, std::vector<std::string>{"k"});
  EXPECT_EQ(sentences(d),
            "b is not placed: on n0 the p95 of a would be 25.0 ms, 5.0 ms over its limit (20 ms), "
            "because of the queue (+12.5 ms in the mean).\n"
            "30 requests/s would fit, on n0.\n"
            "One more device of kind k would do.");
}

TEST(Explain, TheLoosestLimitIsKeptAndATenthLessIsNot) {
  Fleet fleet = fleet_of(cluster());
  HandJudge judge;
  PlacerOptions options = exactly();
  options.promise.margin = 0.1;
  Placer placer(fleet, judge, options);
  const AppId b = *fleet.add(app("b", "m", 20, 10));
  Decision d = placer.admit(b);
  ASSERT_FALSE(d.placed);
  d.advice = advise(placer, b, d);
  EXPECT_NEAR(d.advice->loosest_limit_ms, 10 / 0.6 / 0.9, 0.1);
  EXPECT_TRUE(d.advice->idle_kinds.empty());
  EXPECT_FALSE(fleet.placed(b));
  const double needed = d.advice->loosest_limit_ms;
  EXPECT_TRUE(placer.decide(*fleet.add(app("c", "m", 20, needed))).placed);
  EXPECT_FALSE(placer.decide(*fleet.add(app("d", "m", 20, needed - 0.2))).placed);
}

TEST(Explain, NamesTheMoveThatWouldMakeRoom) {
  profile::Cluster c = cluster();
  c.devices.push_back(device("f", "fast"));
  c.models.push_back(model("n", "k", 10));
  Fleet fleet = fleet_of(c);  // b's model runs on n0 only, a's on both
  HandJudge judge;
  Placer placer(fleet, judge, exactly());
  const AppId b = *fleet.add(app("b", "n", 40, 17));
  Decision d = placer.admit(b);
  ASSERT_FALSE(d.placed);
  d.advice = advise(placer, b, d);
  EXPECT_EQ(d.advice->moves, (std::vector<Move>{{"a", "n0", "f", 1}}));
  EXPECT_NE(sentences(d).find("It would fit on n0 if a moved from n0 to f."), std::string::npos)
      << sentences(d);
  EXPECT_EQ(fleet.where(*fleet.find("a"))[0].device, *fleet.find_device("n0"));
}

TEST(Capacity, CountsWhatFitsAndWhatADeviceMoreWouldBring) {
  profile::Cluster c = cluster();
  c.devices.push_back(device("f", "fast"));
  Fleet fleet = fleet_of(c);
  HandJudge judge;
  // 20 ms on n0: u <= 0.5, so 30/s more; 20 ms on f: u <= 0.95, 950/s.
  const Capacity found = capacity(fleet, judge, app("x", "m", 10, 1000), {exactly(), 1000, {}});
  EXPECT_EQ(found.more, 3 + 95);
  EXPECT_NE(found.reason.breach, Breach::kNone);
  ASSERT_EQ(found.additions.size(), 2U);
  EXPECT_EQ(found.additions[0].device.name, "f");
  EXPECT_EQ(found.additions[0].more, 3 + 95 + 95);
  EXPECT_EQ(found.additions[1].more, 3 + 95 + 9);
  EXPECT_EQ(capacity(fleet, judge, app("x", "m", 10, 1000), {exactly(), 5, {}}).more, 5);
}

}  // namespace
}  // namespace outboard::manage
