// SPDX-License-Identifier: Apache-2.0
#include "split/exec/link_pace.h"

#include <algorithm>

namespace outboard::split::exec {

void LinkPace::begin(std::uint64_t moved_bytes) {
  *this = {};
  begin_bytes_ = now_bytes_ = moved_bytes;
}

void LinkPace::saw(double at_us, std::uint64_t moved_bytes, bool under_way) {
  moved_ = moved_bytes != now_bytes_;
  now_us_ = at_us;
  now_bytes_ = moved_bytes;
  looks_ = under_way ? looks_ + 1 : 0;
  if (looks_ != 1) return;
  first_us_ = at_us;
  first_bytes_ = moved_bytes;
}

double LinkPace::left_us(std::uint64_t frame_bytes) const {
  if (looks_ < kLooks || now_bytes_ <= first_bytes_) return 0;
  const auto moved = static_cast<double>(now_bytes_ - first_bytes_);
  // Whatever wraps the rows on their way counts as moved, too.
  const auto left = std::max(
      0.0, static_cast<double>(frame_bytes) - static_cast<double>(now_bytes_ - begin_bytes_));
  return left * (now_us_ - first_us_) / moved;
}

}  // namespace outboard::split::exec
