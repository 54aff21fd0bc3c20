// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/forecast.h"

#include <algorithm>

namespace outboard::intercept {

void Forecast::saw(double elapsed_us, std::uint64_t moved_bytes) {
  if (moved_bytes == 0 || (count_ > 0 && moved_bytes < newest().moved_bytes)) return;
  looks_[count_++ % looks_.size()] = {elapsed_us, moved_bytes};
}

double Forecast::us_per_byte() const {
  if (count_ < 2) return 0;
  const Look& last = newest();
  Look first = last;
  const std::size_t kept = std::min(count_, looks_.size());
  for (std::size_t i = 1; i < kept; ++i) {
    const Look& look = looks_[(count_ - 1 - i) % looks_.size()];
    // The last look before the window, where those inside span too little.
    if (last.elapsed_us - look.elapsed_us > kWindowUs &&
        last.elapsed_us - first.elapsed_us >= kLeastSpanUs)
      break;
    first = look;
  }
  const std::uint64_t moved = last.moved_bytes - first.moved_bytes;
  const double span_us = last.elapsed_us - first.elapsed_us;
  if (span_us < kLeastSpanUs || moved < kLeastBytes) return 0;
  return span_us / static_cast<double>(moved);
}

bool Forecast::is_leaving() const {
  return count_ > 0 && newest().moved_bytes < usual_.request_bytes;
}

double Forecast::left_us() const {
  const double us_per_byte = this->us_per_byte();
  if (us_per_byte == 0) return 0;
  const std::uint64_t moved = newest().moved_bytes;
  const auto reply = static_cast<double>(usual_.reply_bytes);
  if (moved < usual_.request_bytes)
    return us_per_byte * static_cast<double>(usual_.request_bytes - moved) + usual_.compute_us +
           usual_.down_us_per_byte * reply;
  const std::uint64_t of_reply = std::min(moved - usual_.request_bytes, usual_.reply_bytes);
  return us_per_byte * static_cast<double>(usual_.reply_bytes - of_reply);
}

}  // namespace outboard::intercept
