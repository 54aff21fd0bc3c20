// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <gtest/gtest.h>

namespace outboard {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return error(ErrorKind::kInvalid, "number ({}) must be even", n);
  return n / 2;
}

Result<int> quarter(int n) {
  OB_TRY(const int h, half(n));
  return half(h);
}

Result<void> must_be_even(int n) {
  OB_CHECK_OK([&]() -> Result<void> {
    if (auto h = half(n); !h)
      return tl::make_unexpected(std::move(h.error()).while_doing("checking"));
    return {};
  }());
  return {};
}

TEST(Result, TryReturnsTheValueOrTheError) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().message, "number (3) must be even");
  EXPECT_EQ(quarter(6).error().kind, ErrorKind::kInvalid);
}

TEST(Result, ContextIsAddedOnTheWayUp) {
  EXPECT_EQ(must_be_even(3).error().message, "number (3) must be even, while checking");
  EXPECT_TRUE(must_be_even(4).has_value());
}

}  // namespace
}  // namespace outboard
