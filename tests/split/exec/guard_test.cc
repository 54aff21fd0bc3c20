// SPDX-License-Identifier: Apache-2.0
// Whatever plans' frames take, and whatever is computed beside Runs, a session that asks its guard
// is never below 0.97 of one node over 20 Runs, but for what a lost frame may take that was begun
// with less room than that.
#include "split/exec/guard.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <numeric>
#include <utility>
#include <vector>

namespace outboard::split::exec {
namespace {

constexpr double kSingle = 100;

Guard guard_of_one_node() {
  Guard guard;
  guard.one_node_takes(kSingle);
  return guard;
}

TEST(Guard, GivesUpAPlanThatIsALittleSlower) {
  Guard guard = guard_of_one_node();
  int frames = 0;
  for (; !guard.spent(); ++frames) {
    ASSERT_LT(frames, 20);
    guard.run_took(105);
  }
  EXPECT_EQ(frames, 5);
}

TEST(Guard, WaitsForASlowFrameThatMovesAndNotForOneThatStandsStill) {
  Guard guard = guard_of_one_node();
  const auto budget = guard.budget(50, 5);
  EXPECT_DOUBLE_EQ(budget.us, 60);
  EXPECT_DOUBLE_EQ(budget.longest_us, 150);
  guard.run_took(120);
  EXPECT_FALSE(guard.spent());
  EXPECT_NEAR(guard.budget(50, 5).us, 55, 1e-9);  // a tenth more than what is expected, at least
}

TEST(Guard, ForgetsWhatWasLostTwentyRunsAgo) {
  Guard guard = guard_of_one_node();
  guard.run_took(150);
  for (int i = 0; i < 18; ++i) guard.own_run_beside(0);
  EXPECT_NEAR(guard.room(), 0.1, 1e-9);
  guard.own_run_beside(0);
  EXPECT_NEAR(guard.room(), 0.6, 1e-9);
}

TEST(Guard, LetsQuickRunsPayForTheSlowOnesBeforeThem) {
  Guard guard = guard_of_one_node();
  guard.run_took(150);
  guard.run_took(60);
  EXPECT_NEAR(guard.lost(), 0.1, 1e-9);
  guard.run_took(20);
  EXPECT_NEAR(guard.lost(), 0, 1e-9);
}

TEST(Guard, AfterAFrameThatCostMuchNoOtherBeginsUntilItIsForgotten) {
  Guard guard = guard_of_one_node();
  guard.run_took(220);
  guard.frame_lost();
  EXPECT_FALSE(guard.is_lost());
  for (int i = 0; i < 19; ++i) {
    EXPECT_FALSE(guard.may_begin()) << i;
    guard.own_run_beside(0);
  }
  EXPECT_TRUE(guard.may_begin());
  guard.run_took(55);
  guard.frame_came();
  // One that was given up early cost little, and the next one tells whether that was by chance.
  guard.run_took(120);
  guard.frame_lost();
  EXPECT_TRUE(guard.may_begin());
  EXPECT_FALSE(guard.is_lost());
  guard.run_took(120);
  guard.frame_lost();
  EXPECT_TRUE(guard.is_lost());
}

// As a session goes on: plans that become slow, trials, and work aside, in any order.
RC_GTEST_PROP(Guard, TwentyRunsAreNeverMuchSlowerThanOneNode, ()) {
  Guard guard = guard_of_one_node();
  std::vector<double> took;
  bool in_use = false;
  bool has_stood = false;  // at most one frame here, so that the windows can be told
  double beyond_room = 0;
  const auto events = *rc::gen::container<std::vector<std::pair<int, int>>>(
      120, rc::gen::pair(rc::gen::inRange(0, 10), rc::gen::inRange(20, 126)));
  for (const auto& [what, frame] : events) {
    const bool tries = !in_use && what < 3 && guard.room() >= 0.5;
    if (in_use || tries) {
      const auto budget = guard.budget(50, 5);
      if (what == 9 && !std::exchange(has_stood, true)) {  // is given up, computed on one node
        took.push_back(budget.us + kSingle);
        beyond_room = std::max(0.0, budget.us - guard.room() * kSingle);
        in_use = false;
      } else {
        took.push_back(std::min<double>(frame, budget.longest_us));
      }
      guard.run_took(took.back());
      in_use = in_use || (tries && frame < 95);
      if (took.back() > kSingle && guard.spent()) in_use = false;
    } else {
      const double share = guard.room() >= 0.1 ? 0.018 : 0;
      took.push_back(kSingle * (1 + share));
      guard.own_run_beside(share);
    }
  }
  for (std::size_t i = 0; i + 20 <= took.size(); ++i) {
    const auto first = took.begin() + static_cast<std::ptrdiff_t>(i);
    RC_ASSERT(20 * kSingle / (std::accumulate(first, first + 20, 0.0) - beyond_room) >= 0.97);
  }
}

}  // namespace
}  // namespace outboard::split::exec
