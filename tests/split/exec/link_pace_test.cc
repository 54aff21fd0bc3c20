// SPDX-License-Identifier: Apache-2.0
#include "split/exec/link_pace.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace outboard::split::exec {
namespace {

TEST(LinkPace, SaysNothingBeforeItHasLookedOften) {
  LinkPace pace;
  pace.begin(500);
  for (int look = 1; look < LinkPace::kLooks; ++look) {
    pace.saw(1000.0 * look, 500 + 1000u * static_cast<unsigned>(look), true);
    EXPECT_EQ(pace.left_us(100'000), 0) << look;
  }
  pace.saw(1000.0 * LinkPace::kLooks, 500 + 1000u * LinkPace::kLooks, true);
  EXPECT_DOUBLE_EQ(pace.left_us(100'000), 100'000 - 1000 * LinkPace::kLooks);
}

// The rows between two calls move in a moment; how long the calls take says nothing of the link.
TEST(LinkPace, ALinkThatRestsNowAndThenIsNotSlow) {
  LinkPace pace;
  pace.begin(0);
  for (unsigned look = 1; look < 50; ++look) {
    pace.saw(1000.0 * look, 100 * look, look % 3 != 0);
    EXPECT_EQ(pace.left_us(1'000'000), 0) << look;
  }
}

TEST(LinkPace, OneThatStandsStillIsNotSlowEither) {
  LinkPace pace;
  pace.begin(70);
  for (unsigned look = 1; look < 9; ++look) {
    pace.saw(1000.0 * look, 70, true);
    EXPECT_FALSE(pace.has_moved());
    EXPECT_EQ(pace.left_us(1'000'000), 0);
  }
  pace.saw(9000, 71, true);
  EXPECT_TRUE(pace.has_moved());
}

TEST(LinkPace, AFrameTellsNothingOfTheOneBefore) {
  LinkPace pace;
  pace.begin(0);
  for (unsigned look = 1; look < 9; ++look) pace.saw(1000.0 * look, look, true);
  EXPECT_GT(pace.left_us(1000), 0);
  pace.begin(8);
  EXPECT_EQ(pace.left_us(1000), 0);
}

RC_GTEST_PROP(LinkPace, IsRightOfASteadyLink, ()) {
  const auto rate = static_cast<double>(*rc::gen::inRange(1, 1000));  // bytes a microsecond
  const int looks = *rc::gen::inRange(LinkPace::kLooks, 30);
  const auto total = static_cast<std::uint64_t>(*rc::gen::inRange(0, 100'000'000));
  LinkPace pace;
  pace.begin(0);
  double at_us = 0;
  for (int i = 0; i < looks; ++i) {
    at_us += *rc::gen::inRange(1, 20'000);
    pace.saw(at_us, static_cast<std::uint64_t>(at_us * rate), true);
  }
  const double left_us = std::max(0.0, static_cast<double>(total) / rate - at_us);
  RC_ASSERT(std::abs(pace.left_us(total) - left_us) <= 1e-6 * left_us + 1);
}

}  // namespace
}  // namespace outboard::split::exec
