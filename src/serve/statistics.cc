// SPDX-License-Identifier: Apache-2.0
#include "serve/statistics.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace outboard::serve {

void TimeWindow::add(std::uint64_t time_ns) {
  const std::lock_guard lock(mutex_);
  samples_us_[added_++ % kSamples] = static_cast<float>(static_cast<double>(time_ns) * 1e-3);
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
  // The smallest sample that at least 95 % are not above.
  const std::size_t rank = (samples.size() * 95 + 99) / 100;
  return {.count = samples.size(),
          .mean_us = sum / n,
          .p95_us = samples[rank - 1],
          .max_us = samples.back()};
}

}  // namespace outboard::serve
