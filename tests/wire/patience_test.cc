// SPDX-License-Identifier: Apache-2.0
#include "wire/patience.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace outboard::wire {
namespace {

using std::chrono::microseconds;

TEST(Patience, LooksOnlyAfterSeveralMessagesThatCameSoon) {
  Patience patience;
  for (int i = 0; i < Patience::kTrust; ++i) {
    EXPECT_FALSE(patience.is_worth_looking());
    patience.came_after(microseconds(60));
  }
  EXPECT_TRUE(patience.is_worth_looking());
  patience.came_after(std::chrono::milliseconds(30));
  EXPECT_FALSE(patience.is_worth_looking()) << "one long wait, and it sleeps again";
}

// However messages come, what is looked for in vain stays below 3 us a message.
RC_GTEST_PROP(Patience, WastesLittle, ()) {
  const auto waits_us = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 300));
  Patience patience;
  long wasted_us = 0;
  for (const int wait : waits_us) {
    const bool looks = patience.is_worth_looking();
    if (looks && microseconds(wait) > Patience::kLook) {
      patience.looked_in_vain();
      wasted_us += 50;
    } else {
      patience.came_after(looks ? Nanoseconds::zero() : Nanoseconds(microseconds(wait)));
    }
  }
  RC_ASSERT(wasted_us <= 50 + 3 * static_cast<long>(waits_us.size()));
}

TEST(LookingSlots, HalfOfTheProcessorsLook) {
  LookingSlots one(1), four(4);
  EXPECT_FALSE(one.take()) << "nobody could send what is looked for";
  EXPECT_TRUE(four.take());
  EXPECT_TRUE(four.take());
  EXPECT_FALSE(four.take());
  four.give_back();
  EXPECT_TRUE(four.take());
}

}  // namespace
}  // namespace outboard::wire
