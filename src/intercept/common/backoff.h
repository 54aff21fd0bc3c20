// SPDX-License-Identifier: Apache-2.0
// When to try again: delays that double from `first` to `last`, each drawn from the upper half of
// its range, so that many clients of one server that lost it together do not come back together.
// Not thread-safe. Pure: the sequence follows from the seed.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace outboard::intercept {

// One step of splitmix64 (Steele, Lea and Flood 2014): a well mixed number for each state.
constexpr std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

class Backoff {
 public:
  using Milliseconds = std::chrono::milliseconds;
  // The longest delay and a connection attempt together stay below the 5 s within which a client
  // is to be back.
  static constexpr Milliseconds kFirst{50}, kLast{3000};

  explicit Backoff(std::uint64_t seed) : state_(seed) {}
  Milliseconds next() {
    const auto range = static_cast<std::uint64_t>(delay_.count());
    delay_ = std::min(delay_ * 2, kLast);
    return Milliseconds(range - next_random(state_) % (range / 2 + 1));
  }
  void reset() { delay_ = kFirst; }
  bool has_begun() const { return delay_ > kFirst; }

 private:
  Milliseconds delay_ = kFirst;
  std::uint64_t state_;
};

}  // namespace outboard::intercept
