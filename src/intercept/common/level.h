// SPDX-License-Identifier: Apache-2.0
// A mean that follows what is measured: steady noise is averaged over the last kWindow samples, one
// sample that is far off is taken for an outlier, and two in a row for a step, at once. Only a
// single sample of kHuge times the mean counts half until the next tells which it was: another Run
// like that would cost more than leaving for nothing.
//
// Units are the caller's. Samples are positive. Pure values; not thread-safe.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>

namespace outboard::intercept {

class Level {
 public:
  static constexpr double kWindow = 16;
  // What is farther than this share of the mean and than kDeviations mean deviations is far off.
  static constexpr double kFar = 0.3, kDeviations = 5;
  static constexpr double kHuge = 6;

  void add(double sample) {
    ++count_;
    if (count_ == 1) {
      restart(sample);
      return;
    }
    if (!is_far(sample)) {
      // The outlier before was one: it was a Run, too, and counts a little.
      if (suspect_) merge(std::clamp(*suspect_, mean_ / 1.5, 1.5 * mean_));
      suspect_.reset();
      merge(sample);
      return;
    }
    if (suspect_ && (*suspect_ > mean_) == (sample > mean_)) {
      // Two in a row on one side. The second is the better witness: the first may have begun
      // before the step, and a first Run is slower than those that follow it.
      const double believed =
          std::abs(sample - *suspect_) < kFar * sample ? 0.5 * (sample + *suspect_) : sample;
      restart(believed);
      return;
    }
    suspect_ = sample;
  }

  // A sample of which it is known that everything before it is past.
  void begin_again(double sample) {
    ++count_;
    restart(sample);
  }

  // Everything measured so far would be so many times as much now.
  void scale(double factor) {
    mean_ *= factor;
    deviation_ *= factor;
    suspect_.reset();
  }

  // 0 before the first sample.
  double value() const {
    return suspect_ && *suspect_ > kHuge * mean_ ? 0.5 * (mean_ + *suspect_) : mean_;
  }
  // What hardly any Run exceeds as long as nothing changes.
  double bound() const { return std::max(2 * mean_, mean_ + 8 * deviation_); }
  std::uint64_t count() const { return count_; }
  // Was the last sample far off, and what is the best that the next may be, then?
  bool is_suspect() const { return suspect_.has_value(); }
  double hoped() const { return suspect_ ? std::min(mean_, *suspect_) : mean_; }

 private:
  bool is_far(double sample) const {
    return std::abs(sample - mean_) > std::max(kFar * mean_, kDeviations * deviation_);
  }
  void restart(double at) {
    mean_ = at;
    deviation_ = 0;
    weight_ = 1;
    suspect_.reset();
  }
  void merge(double sample) {
    weight_ = std::min(weight_ + 1, kWindow);
    deviation_ += (std::abs(sample - mean_) - deviation_) / weight_;
    mean_ += (sample - mean_) / weight_;
  }

  double mean_ = 0, deviation_ = 0, weight_ = 0;
  std::optional<double> suspect_;
  std::uint64_t count_ = 0;
};

}  // namespace outboard::intercept
