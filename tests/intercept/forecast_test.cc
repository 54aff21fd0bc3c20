// SPDX-License-Identifier: Apache-2.0
// What the bytes of a Run under way say of its end.
#include "intercept/common/forecast.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>

#include "intercept/common/hedge_rule.h"

namespace outboard::intercept {
namespace {

constexpr UsualRun kUsual{
    .request_bytes = 600'000, .reply_bytes = 4'000, .compute_us = 80e3, .down_us_per_byte = 0.1};
constexpr double kLookUs = 100e3;

// A request that leaves at `first` bytes per microsecond, and at `second` from `change_us` on.
std::uint64_t moved_at(double us, double first, double change_us, double second) {
  const double moved = first * std::min(us, change_us) + second * std::max(us - change_us, 0.0);
  return static_cast<std::uint64_t>(std::min(moved, 600e3));
}

TEST(Forecast, SaysNothingBeforeBytesWereSeenToMove) {
  Forecast forecast(kUsual);
  EXPECT_EQ(forecast.left_us(), 0);
  forecast.saw(100e3, 20'000);
  EXPECT_EQ(forecast.left_us(), 0);
  forecast.saw(120e3, 40'000);
  EXPECT_EQ(forecast.left_us(), 0) << "too short a time";
  forecast.saw(200e3, 0);  // nobody could be asked
  forecast.saw(220e3, 60'000);
  EXPECT_EQ(forecast.us_per_byte(), 3);
  // Silence is not slowness.
  for (int i = 4; i < 12; ++i) forecast.saw(i * 100e3, 60'000 + static_cast<std::uint64_t>(i));
  EXPECT_EQ(forecast.us_per_byte(), 0);
  EXPECT_EQ(forecast.left_us(), 0);
}

TEST(Forecast, IsTheRequestsRestTheComputingAndTheReply) {
  Forecast forecast(kUsual);
  forecast.saw(100e3, 100'000);
  forecast.saw(200e3, 200'000);
  EXPECT_TRUE(forecast.is_leaving());
  EXPECT_DOUBLE_EQ(forecast.left_us(), 400e3 + 80e3 + 400);
  forecast.saw(600e3, 602'000);
  EXPECT_FALSE(forecast.is_leaving());
  EXPECT_DOUBLE_EQ(forecast.us_per_byte(), 400e3 / 402e3);
  forecast.saw(700e3, 702'000);  // more than was ever expected
  EXPECT_EQ(forecast.left_us(), 0);
}

// Half a second after the link has changed nothing of before is in it.
RC_GTEST_PROP(Forecast, FollowsALinkThatChangesInTheMiddleOfARequest, ()) {
  const double first = *rc::gen::inRange(2, 40) / 100.0;
  const double second = first / *rc::gen::inRange(1, 30);
  const double change_us = *rc::gen::inRange(0, 1000) * 1e3;
  Forecast forecast(kUsual);
  for (double at = kLookUs; at < 60e6; at += kLookUs) {
    const std::uint64_t moved = moved_at(at, first, change_us, second);
    if (moved >= kUsual.request_bytes) break;
    forecast.saw(at, moved);
    if (at < change_us + 500e3 || second * Forecast::kWindowUs < 2 * Forecast::kLeastBytes)
      continue;
    const double true_us = static_cast<double>(kUsual.request_bytes - moved) / second;
    RC_ASSERT(forecast.left_us() > true_us);
    RC_ASSERT(forecast.left_us() < 1.01 * true_us + 81e3);
  }
}

// Bytes that leave in bursts of a fifth of a second: never taken for half of their rate.
TEST(Forecast, AveragesBursts) {
  Forecast forecast(kUsual);
  for (int i = 1; i <= 20; ++i) {
    forecast.saw(i * kLookUs, static_cast<std::uint64_t>((i + 1) / 2) * 40'000);
    if (i < 4 || forecast.left_us() == 0) continue;
    EXPECT_GT(forecast.us_per_byte(), 100e3 / 20e3 / 2);
    EXPECT_LT(forecast.us_per_byte(), 100e3 / 20e3 * 2);
  }
}

HedgeRule::Moment late(double elapsed_us, double left_us, double other_us) {
  return {.elapsed_us = elapsed_us,
          .after_us = 400e3,
          .unheard_us = 0,
          .answered = 1000,
          .hedged = 0,
          .usual_us = 200e3,
          .left_us = left_us,
          .other_us = other_us};
}

TEST(HedgeRule, ARunThatIsBeingOvertakenIsBegunElsewhereAtOnce) {
  EXPECT_TRUE(HedgeRule::may_begin(late(200e3, 4e6, 900e3)));
  EXPECT_FALSE(HedgeRule::may_begin(late(199e3, 4e6, 900e3))) << "as usual so far";
  EXPECT_FALSE(HedgeRule::may_begin(late(200e3, 1.25 * 900e3, 900e3))) << "soon enough here";
  EXPECT_FALSE(HedgeRule::may_begin(late(200e3, 0, 900e3))) << "nothing is forecast";
  EXPECT_FALSE(HedgeRule::may_begin(late(200e3, 4e6, 0))) << "there is no other side";
  // A slow link spends no budget that is meant for a server that is well.
  HedgeRule::Moment moment = late(300e3, 4e6, 900e3);
  moment.hedged = 1'000'000;
  EXPECT_TRUE(HedgeRule::may_begin(moment));
  moment.left_us = 450e3;
  moment.other_us = 300e3;
  EXPECT_FALSE(HedgeRule::may_begin(moment));
}

TEST(HedgeRule, WhatIsUsualFollowsAStepSoonerThanTheTailDoes) {
  EXPECT_EQ(HedgeRule::usual_us({}), HedgeRule::kUnknownUs);
  EXPECT_EQ(HedgeRule::usual_us({.p99_us = 150, .bound_us = 200}), 150);
  EXPECT_EQ(HedgeRule::usual_us({.p99_us = 5000, .bound_us = 200}), 200);
  EXPECT_EQ(HedgeRule::usual_us({.expected_us = 100}), 200);
  EXPECT_EQ(HedgeRule::usual_us({.p99_us = 150}), 150);
}

// A link that is slow as ever, and the better side by a little: Runs are not begun twice, whatever
// the noise of its rate.
RC_GTEST_PROP(HedgeRule, ARunAsUsualOnASlowLinkIsNeverOvertaken, ()) {
  const double rate = *rc::gen::inRange(5, 200) / 100.0;
  const double noise = *rc::gen::inRange(0, 40) / 100.0;
  Forecast forecast(kUsual);
  double moved = 0;
  // What such Runs take here: no less than there.
  const double whole_us = 600e3 / rate + 81e3;
  for (double at = kLookUs; moved < 600e3; at += kLookUs) {
    moved += kLookUs * rate * (1 + noise * (*rc::gen::inRange(-100, 101) / 100.0));
    forecast.saw(at, static_cast<std::uint64_t>(moved));
    const HedgeRule::Moment moment{.elapsed_us = at,
                                   .after_us = std::max(2 * whole_us, 400e3),
                                   .usual_us = (1 + noise) * whole_us,
                                   .left_us = forecast.left_us(),
                                   .other_us = whole_us};
    RC_ASSERT(!HedgeRule::is_being_overtaken(moment));
  }
}

}  // namespace
}  // namespace outboard::intercept
