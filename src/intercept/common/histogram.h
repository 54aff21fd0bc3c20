// SPDX-License-Identifier: Apache-2.0
// A distribution of times in constant memory: buckets of 1/32 of an octave, so that a percentile is
// right within 2.2 %. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>

namespace outboard::intercept {

class Histogram {
 public:
  void add(std::uint64_t time_ns);
  std::uint64_t count() const { return count_; }
  // The time below which the fraction `p` (0 to 1) of all times lies; 0 when there are none.
  double percentile_ns(double p) const;
  double mean_ns() const {
    return count_ == 0 ? 0 : static_cast<double>(sum_ns_) / static_cast<double>(count_);
  }
  std::uint64_t max_ns() const { return max_ns_; }

 private:
  static constexpr unsigned kSubBits = 5, kOctaves = 42;
  std::array<std::uint32_t, (kOctaves + 1) << kSubBits> buckets_{};
  std::uint64_t count_ = 0, sum_ns_ = 0, max_ns_ = 0;
};

}  // namespace outboard::intercept
