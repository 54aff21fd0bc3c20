// SPDX-License-Identifier: Apache-2.0
#include "serve/load_average.h"

#include <algorithm>
#include <cmath>

#include "profile/run_cost.h"

namespace outboard::serve {

double LoadAverage::average(std::uint32_t depth, Nanoseconds now) const {
  const auto passed = static_cast<double>(std::max(now - at_, Nanoseconds{}).count());
  const double kept = std::exp(-passed / static_cast<double>(kMemory.count()));
  return kept * depth_ + (1 - kept) * depth;
}

void LoadAverage::depth_was(std::uint32_t depth, Nanoseconds now) {
  depth_ = average(depth, now);
  at_ = now;
}

void LoadAverage::served(Nanoseconds time) {
  constexpr double kNewest = 0.2;
  const double us = static_cast<double>(time.count()) / 1e3;
  service_us_ = service_us_ == 0 ? us : (1 - kNewest) * service_us_ + kNewest * us;
}

Nanoseconds LoadAverage::expected_wait(std::uint32_t depth_now, Nanoseconds now) const {
  const double depth = average(depth_now, now);
  const auto below = static_cast<std::uint32_t>(depth);
  const double low = profile::queue_wait_us(below, slots_, service_us_),
               high = profile::queue_wait_us(below + 1, slots_, service_us_);
  return Nanoseconds(static_cast<std::int64_t>(1e3 * (low + (depth - below) * (high - low))));
}

}  // namespace outboard::serve
