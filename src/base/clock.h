// SPDX-License-Identifier: Apache-2.0
// The clock, as tests need to control it. Times are nanoseconds of a monotonic clock.
#pragma once

#include <chrono>
#include <cstdint>

namespace outboard {

using Nanoseconds = std::chrono::nanoseconds;

// Thread-safe. Never goes back.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Nanoseconds now() const = 0;
  static const Clock& monotonic();  // CLOCK_MONOTONIC; lives as long as the process
};

// A point in time at which waiting ends. Default-constructed: never.
struct Deadline {
  Nanoseconds at = Nanoseconds::max();
  static Deadline never() { return {}; }
  static Deadline in(Nanoseconds delay, const Clock& clock = Clock::monotonic()) {
    return {clock.now() + delay};
  }
  bool is_never() const { return at == Nanoseconds::max(); }
  // What is left, at least zero, rounded up to milliseconds; -1 for never (as poll(2) takes it).
  int poll_timeout_ms(const Clock& clock = Clock::monotonic()) const;
};

}  // namespace outboard
