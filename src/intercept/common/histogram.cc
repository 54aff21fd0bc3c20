// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace outboard::intercept {

void Histogram::add(std::uint64_t time_ns) {
  // A value below 32 is its own bucket; above, the five bits after the leading one choose.
  std::size_t bucket = time_ns;
  if (time_ns >> kSubBits != 0) {
    const unsigned octave = static_cast<unsigned>(std::bit_width(time_ns)) - kSubBits;
    const std::uint64_t sub = (time_ns >> (octave - 1)) & ((1u << kSubBits) - 1);
    bucket = (static_cast<std::size_t>(octave) << kSubBits) + sub;
  }
  ++buckets_[std::min(bucket, buckets_.size() - 1)];
  ++count_;
  sum_ns_ += time_ns;
  max_ns_ = std::max(max_ns_, time_ns);
}

double Histogram::percentile_ns(double p) const {
  if (count_ == 0) return 0;
  const auto rank = static_cast<std::uint64_t>(std::ceil(p * static_cast<double>(count_)));
  const std::uint64_t wanted = std::clamp<std::uint64_t>(rank, 1, count_);
  std::uint64_t seen = 0;
  std::size_t bucket = 0;
  for (; bucket < buckets_.size(); ++bucket) {
    seen += buckets_[bucket];
    if (seen >= wanted) break;
  }
  if (bucket < 1u << kSubBits) return static_cast<double>(bucket);
  const auto octave = static_cast<int>(bucket >> kSubBits);
  const double sub = static_cast<double>(bucket & ((1u << kSubBits) - 1));
  // The bucket's middle.
  const double middle = std::ldexp((1u << kSubBits) + sub + 0.5, octave - 1);
  return std::min(middle, static_cast<double>(max_ns_));
}

}  // namespace outboard::intercept
