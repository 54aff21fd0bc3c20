// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/histogram.h"

#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>
#include <algorithm>
#include <cmath>
#include <vector>

namespace outboard::intercept {
namespace {

TEST(Histogram, IsZeroWhenEmpty) { EXPECT_EQ(Histogram().percentile_ns(0.5), 0); }

RC_GTEST_PROP(Histogram, PercentilesAreRightWithinTheBuckets, (std::vector<std::uint32_t> times)) {
  RC_PRE(!times.empty());
  Histogram histogram;
  for (const auto time : times) histogram.add(time);
  std::sort(times.begin(), times.end());
  for (const double p : {0.01, 0.5, 0.95, 1.0}) {
    const auto rank = static_cast<std::size_t>(std::ceil(p * static_cast<double>(times.size())));
    const double exact = times[std::max<std::size_t>(rank, 1) - 1];
    RC_ASSERT(std::abs(histogram.percentile_ns(p) - exact) <= exact * 0.032 + 1);
  }
  RC_ASSERT(histogram.count() == times.size());
  RC_ASSERT(histogram.max_ns() == times.back());
}

}  // namespace
}  // namespace outboard::intercept
