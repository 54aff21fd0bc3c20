// SPDX-License-Identifier: Apache-2.0
#include "serve/statistics.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace outboard::serve {

void TimeWindow::add(std::uint64_t time_ns) {
  const double time_s = static_cast<double>(time_ns) * 1e-9;
  const auto bucket = static_cast<std::size_t>(
      std::lower_bound(kBounds_s.begin(), kBounds_s.end(), time_s) - kBounds_s.begin());
  const std::lock_guard lock(mutex_);
  samples_us_[added_++ % kSamples] = static_cast<float>(time_s * 1e6);
  ++histogram_.counts[bucket];
  histogram_.sum_s += time_s;
}

TimeWindow::Histogram TimeWindow::histogram() const {
  const std::lock_guard lock(mutex_);
  return histogram_;
}

TimeWindow::Summary TimeWindow::summary() const {
  std::vector<float> samples;
  {
    const std::lock_guard lock(mutex_);
    const auto count = static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(added_, kSamples));
    samples.assign(samples_us_.begin(), samples_us_.begin() + count);
  }
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  const auto n = static_cast<double>(samples.size());
  const double sum = std::accumulate(samples.begin(), samples.end(), 0.0);
  // The smallest sample that at least so many per cent are not above.
  const auto percentile = [&](std::size_t percent) {
    return static_cast<double>(samples[(samples.size() * percent + 99) / 100 - 1]);
  };
  return {.count = samples.size(),
          .mean_us = sum / n,
          .p50_us = percentile(50),
          .p95_us = percentile(95),
          .max_us = samples.back()};
}

}  // namespace outboard::serve
