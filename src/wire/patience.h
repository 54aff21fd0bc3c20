// SPDX-License-Identifier: Apache-2.0
// Whether to look for a message for a moment before sleeping until it comes.
//
// Sleeping and being woken costs each side some 5 us of work, and 20 us until an idle processor
// runs again (docs/benchmarks.md), more than a Run of a small model. So a thread looks for up to
// kLook, giving way to any other thread between two looks, if the messages before came soon; and
// sleeps at once if they did not. A look in vain counts against 16 messages that came soon, which
// bounds what is wasted to 3 us a message; and at most half of the processors look at the same
// time. What it learnt belongs to one connection. Patience: one thread at a time; LookingSlots:
// thread-safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "base/clock.h"

namespace outboard::wire {

// Pure.
class Patience {
 public:
  static constexpr Nanoseconds kLook = std::chrono::microseconds(50);
  // Soon, for a thread that slept: what it waited includes being woken.
  static constexpr Nanoseconds kSoon = std::chrono::microseconds(120);
  static constexpr int kTrust = 4, kMost = 8, kInVain = -16;

  bool is_worth_looking() const { return score_ >= kTrust; }
  void looked_in_vain() { score_ = kInVain; }
  // Found by looking, or slept for this long.
  void came_after(Nanoseconds waited) {
    score_ = waited <= kSoon ? std::min(score_ + 1, kMost) : std::min(score_, 0);
  }

 private:
  int score_ = 0;
};

// How many threads may look at the same time.
class LookingSlots {
 public:
  explicit LookingSlots(unsigned processors = std::thread::hardware_concurrency())
      : free_(static_cast<int>(processors / 2)) {}
  bool take() {
    if (free_.fetch_sub(1, std::memory_order_relaxed) > 0) return true;
    give_back();
    return false;
  }
  void give_back() { free_.fetch_add(1, std::memory_order_relaxed); }

 private:
  std::atomic<int> free_;
};

}  // namespace outboard::wire
