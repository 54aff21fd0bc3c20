// SPDX-License-Identifier: Apache-2.0
// What a link carries in one direction, from the transfers that went over it: decides whether a
// tensor is worth coding. Small transfers say little (they fit into the buffers on the way) and
// count little or nothing. Plain value; the owner locks.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace outboard::wire {

class LinkRate {
 public:
  static constexpr std::uint64_t kLeastBytes = 16u << 10;

  // `bytes` took `time_ns` from the first to the last at the receiver. `is_lower_bound`: something
  // else than the link may have held them up.
  void add(std::uint64_t bytes, std::uint64_t time_ns, bool is_lower_bound = false) {
    if (bytes < kLeastBytes) return;
    const double rate =
        static_cast<double>(bytes) * 1e9 / static_cast<double>(std::max<std::uint64_t>(time_ns, 1));
    latest_[count_++ % latest_.size()] = rate;
    if (!bytes_per_s_) {
      bytes_per_s_ = rate;
      return;
    }
    if (is_lower_bound && rate < *bytes_per_s_) return;
    // Half of what a transfer of 256 KiB or more says. Times are averaged, not rates: one transfer
    // out of a buffer must not hide ten over a slow link.
    const double weight = 0.5 * std::min(1.0, static_cast<double>(bytes) / (256 << 10));
    bytes_per_s_ = 1 / ((1 - weight) / *bytes_per_s_ + weight / rate);
  }
  // Nothing before the first transfer that says anything.
  std::optional<double> bytes_per_s() const { return bytes_per_s_; }
  // The fastest of the latest eight: a processor that is busy now and then does not make a link
  // slow. Nothing before there are as many.
  std::optional<double> best_of_latest() const {
    if (count_ < latest_.size()) return std::nullopt;
    return *std::max_element(latest_.begin(), latest_.end());
  }

 private:
  std::optional<double> bytes_per_s_;
  std::array<double, 8> latest_{};
  std::size_t count_ = 0;
};

}  // namespace outboard::wire
