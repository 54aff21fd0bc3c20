// SPDX-License-Identifier: Apache-2.0
// What hardly any Run takes longer than: the second largest of the last kBlock to 2 kBlock samples,
// so about the 99th percentile of them. One outlier in a hundred Runs does not move it, and what is
// more than 2 kBlock Runs ago is forgotten.
//
// Units are the caller's. Pure values of a few bytes; not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>

namespace outboard::intercept {

class Tail {
 public:
  static constexpr std::uint32_t kBlock = 50;

  void add(double sample) {
    now_.add(sample);
    if (++in_block_ < kBlock) return;
    before_ = now_;
    now_ = {};
    in_block_ = 0;
    is_known_ = true;
  }

  // 0: there were too few samples.
  double p99() const {
    if (!is_known_) return 0;
    Largest both = before_;
    both.add(now_.first);
    both.add(now_.second);
    return both.second;
  }

 private:
  struct Largest {
    double first = 0, second = 0;
    void add(double sample) {
      second = std::max(second, std::min(first, sample));
      first = std::max(first, sample);
    }
  };
  Largest now_, before_;
  std::uint32_t in_block_ = 0;
  bool is_known_ = false;
};

}  // namespace outboard::intercept
