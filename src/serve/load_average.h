// SPDX-License-Identifier: Apache-2.0
// How busy a device has been of late, and what that means for a request that comes now.
//
// The number of requests that wait or compute is averaged over time with weights that fade by e in
// kMemory, their service time over requests. The wait is profile/run_cost.h's queue_wait_us() at
// that number, interpolated between whole ones; so a device that another client keeps busy with one
// request after the other costs half a service.
// Pure: times are given. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace outboard::serve {

class LoadAverage {
 public:
  static constexpr Nanoseconds kMemory = std::chrono::milliseconds(500);

  explicit LoadAverage(std::size_t slots) : slots_(static_cast<std::uint32_t>(slots)) {}

  // The depth that held until `now`, at every change of it.
  void depth_was(std::uint32_t depth, Nanoseconds now);
  void served(Nanoseconds time);
  Nanoseconds expected_wait(std::uint32_t depth_now, Nanoseconds now) const;

 private:
  double average(std::uint32_t depth, Nanoseconds now) const;

  const std::uint32_t slots_;
  double depth_ = 0;
  double service_us_ = 0;
  Nanoseconds at_{};
};

}  // namespace outboard::serve
