// SPDX-License-Identifier: Apache-2.0
// Whatever frames take, a session with a guard is never below 0.97 of one node over 20 frames but
// for a frame that is lost.
#include "split/exec/guard.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <numeric>

namespace outboard::split::exec {
namespace {

TEST(Guard, GivesUpAPlanThatIsALittleSlower) {
  Guard guard(100, 60);
  int frames = 0;
  while (guard.frame_took(105)) ASSERT_LT(++frames, 20);
  EXPECT_GE(frames, 5);
}

TEST(Guard, KeepsAPlanThroughOneSlowFrameThatWasEarned) {
  Guard guard(100, 50);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(guard.frame_took(50));
  EXPECT_TRUE(guard.frame_took(guard.budget_us()));
}

RC_GTEST_PROP(Guard, TwentyFramesAreNeverMuchSlowerThanOneNode, ()) {
  const double single = 100;
  const double tried = *rc::gen::inRange(20, 54);
  std::vector<double> took(30, single);  // before the plan was made
  double lost = 0;
  Guard guard(single, tried);
  bool in_use = true;
  const auto frames = *rc::gen::container<std::vector<int>>(60, rc::gen::inRange(10, 400));
  for (const int would_take : frames) {
    if (!in_use) {
      took.push_back(single);
    } else if (const double budget = guard.budget_us(); would_take > budget) {
      took.push_back(budget + single);  // computed on one node after all, and the plan is given up
      in_use = false;
      lost = budget;
    } else {
      took.push_back(would_take);
      in_use = guard.frame_took(would_take);
    }
  }
  for (std::size_t i = 0; i + 20 <= took.size(); ++i) {
    const auto first = took.begin() + static_cast<std::ptrdiff_t>(i);
    const double sum = std::accumulate(first, first + 20, 0.0);
    RC_ASSERT(20 * single / (sum - lost) >= 0.97);
    RC_ASSERT(lost <= 1.25 * single);
  }
}

}  // namespace
}  // namespace outboard::split::exec
