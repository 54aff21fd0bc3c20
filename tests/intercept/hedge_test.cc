// SPDX-License-Identifier: Apache-2.0
// When a Run is begun twice: the rule, the tail it rests on, and what both cost while a server is
// well.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "intercept/common/estimates.h"
#include "intercept/common/hedge_rule.h"
#include "intercept/common/tail.h"

namespace outboard::intercept {
namespace {

constexpr double kSilent = HedgeRule::kSilentUs, kUnknown = HedgeRule::kUnknownUs;

TEST(HedgeRule, WithoutADeadlineTheTailDecides) {
  EXPECT_EQ(HedgeRule::after_us({}), kUnknown);
  EXPECT_EQ(HedgeRule::after_us({.p99_us = 1e3}), kSilent);
  EXPECT_EQ(HedgeRule::after_us({.p99_us = 1e6}), 2e6);
  // Nothing is known of the tail: what is unusual, or the prediction, and a server has time to say
  // that it is alive.
  EXPECT_EQ(HedgeRule::after_us({.bound_us = 3e6, .expected_us = 1e6}), 3e6);
  EXPECT_EQ(HedgeRule::after_us({.expected_us = 1e6}), 2e6);
  EXPECT_EQ(HedgeRule::after_us({.bound_us = 10, .expected_us = 5}), kUnknown);
}

TEST(HedgeRule, ADeadlineLeavesJustTimeForTheOtherSide) {
  const auto after = [](double p99, double other) {
    return HedgeRule::after_us({.p99_us = p99, .other_us = other, .deadline_us = 100e3});
  };
  EXPECT_EQ(after(10e3, 40e3), 50e3);
  // Not before Runs that are as usual have ended, although that is too late for the deadline.
  EXPECT_EQ(after(60e3, 40e3), 60e3);
  EXPECT_EQ(after(10e3, 79e3), 10e3);
  // Where the other side cannot keep it either, as without.
  EXPECT_EQ(after(10e3, 100e3), kSilent);
  // Never later than without a deadline.
  EXPECT_EQ(HedgeRule::after_us({.p99_us = 10e3, .other_us = 1e3, .deadline_us = 9e6}), kSilent);
  // An unknown other side gets half of the time.
  EXPECT_EQ(after(10e3, 0), 50e3);
}

TEST(HedgeRule, AServerThatIsWellCostsAShareOfItsRuns) {
  const auto may = [](double elapsed, double unheard, std::uint64_t answered,
                      std::uint64_t hedged) {
    return HedgeRule::may_begin({.elapsed_us = elapsed,
                                 .after_us = 500e3,
                                 .unheard_us = unheard,
                                 .answered = answered,
                                 .hedged = hedged});
  };
  EXPECT_FALSE(may(499e3, 499e3, 1000, 0));
  EXPECT_TRUE(may(500e3, 100e3, 1000, 0));
  EXPECT_TRUE(may(500e3, 100e3, 1000, 17));
  EXPECT_FALSE(may(500e3, 100e3, 1000, 18));
  EXPECT_TRUE(may(500e3, kSilent, 1000, 18)) << "silent";
  EXPECT_TRUE(may(1000e3, 100e3, 1000, 18)) << "very late";
}

TEST(Tail, IsAboutThe99thPercentileAndForgets) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> times(0, 0.5);
  Tail tail;
  for (int i = 0; i < 49; ++i) tail.add(times(random));
  EXPECT_EQ(tail.p99(), 0) << "too few";
  double sum = 0;
  std::uint64_t beyond = 0, count = 100'000;
  for (std::uint64_t i = 0; i < count; ++i) {
    const double sample = times(random);
    if (i > 100) {
      sum += tail.p99();
      beyond += sample > tail.p99() ? 1 : 0;
    }
    tail.add(sample);
  }
  const double share = static_cast<double>(beyond) / static_cast<double>(count);
  EXPECT_GT(share, 0.015);
  EXPECT_LT(share, 0.04);
  EXPECT_NEAR(sum / static_cast<double>(count), std::exp(0.5 * 2.326), 0.6);
  for (std::uint32_t i = 0; i < 2 * Tail::kBlock; ++i) tail.add(0.01);
  EXPECT_EQ(tail.p99(), 0.01);
  tail.add(1e9);
  EXPECT_EQ(tail.p99(), 0.01) << "one outlier";
}

// Runs of a server with log-normal times, a pause now and then, and from the middle on so many
// times as slow: how many are begun twice, and what the slowest took.
struct World {
  double median_us, sigma;
  double pause_us = 0, pause_share = 0;
  double slower = 1;
  double deadline_us = 0, local_us = 60e3;
};

struct Seen {
  double share = 0, at_server = 0, longest_us = 0;  // shares of all Runs
};

Seen play(const World& world, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> times(std::log(world.median_us), world.sigma);
  std::uniform_real_distribution<double> uniform;
  Estimates estimates(1);
  Sides sides;
  sides.servers = {{true, {}}};
  sides.local_open = true;
  double now_us = 0;
  std::uint64_t hedged = 0, answered = 0, runs = 20'000;
  double longest_us = 0;
  for (std::uint64_t i = 0; i < runs; ++i) {
    const Decision d = estimates.decide(1, 1000, sides, now_us);
    if (d.side == kLocalSide) {
      now_us += world.local_us;
      estimates.local_ran(1, d, world.local_us, now_us);
      continue;
    }
    double takes_us = times(random) * (i < runs / 2 ? 1 : world.slower);
    if (uniform(random) < world.pause_share) takes_us += world.pause_us;
    HedgeRule::Moment moment{.after_us = HedgeRule::after_us({.p99_us = d.p99_us,
                                                              .bound_us = d.late_after_us,
                                                              .expected_us = d.expected_us,
                                                              .other_us = d.other_us,
                                                              .deadline_us = world.deadline_us}),
                             .answered = answered,
                             .hedged = hedged};
    // Looked at every 20 ms from then on; heartbeats come.
    moment.elapsed_us = moment.after_us;
    while (moment.elapsed_us < takes_us && !HedgeRule::may_begin(moment)) moment.elapsed_us += 20e3;
    const double second_us = moment.elapsed_us + world.local_us;
    if (moment.elapsed_us < takes_us) ++hedged;
    if (moment.elapsed_us < takes_us && second_us < takes_us) {
      now_us += second_us;
      estimates.overtaken(1, d, {second_us, second_us}, {}, now_us);
      longest_us = std::max(longest_us, second_us);
    } else {
      now_us += takes_us;
      ++answered;
      estimates.server_ran(1, d, {takes_us, takes_us / 2, 1000, 1000}, {}, now_us);
      longest_us = std::max(longest_us, takes_us);
    }
  }
  const auto share = [&](std::uint64_t n) {
    return static_cast<double>(n) / static_cast<double>(runs);
  };
  return {share(hedged), share(answered), longest_us};
}

TEST(Hedging, CostsFewRunsWhileAServerIsWell) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    EXPECT_LT(play({.median_us = 5e3, .sigma = 0.5}, seed).share, 1e-3);
    EXPECT_LT(play({.median_us = 30e3, .sigma = 1}, seed).share, 0.011);
    // With a deadline that leaves little: the tail's share, and the budget's.
    EXPECT_LT(play({.median_us = 30e3, .sigma = 0.7, .deadline_us = 100e3}, seed).share, 0.021);
    EXPECT_LT(play({.median_us = 30e3, .sigma = 1.5, .deadline_us = 70e3}, seed).share, 0.021);
  }
}

// Its tail is learnt anew, and Runs go on there: this machine would take longer still.
TEST(Hedging, CostsFewRunsOfAServerThatBecomesThreeTimesAsSlow) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    for (const World& world :
         {World{.median_us = 30e3, .sigma = 0.5, .slower = 3, .local_us = 300e3},
          World{.median_us = 200e3, .sigma = 0.7, .slower = 3, .local_us = 2e6},
          World{.median_us = 30e3,
                .sigma = 0.7,
                .slower = 3,
                .deadline_us = 400e3,
                .local_us = 300e3}}) {
      const Seen seen = play(world, seed);
      EXPECT_LT(seen.share, world.deadline_us > 0 ? 0.011 : 0.004);
      EXPECT_GT(seen.at_server, 0.8);
    }
  }
}

TEST(Hedging, EndsARareLongPause) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const World world{.median_us = 5e3, .sigma = 0.3, .pause_us = 30e6, .pause_share = 2e-3};
    const Seen seen = play(world, seed);
    EXPECT_LT(seen.share, 0.011);
    EXPECT_LE(seen.longest_us, 1e6 + world.local_us);
  }
}

}  // namespace
}  // namespace outboard::intercept
