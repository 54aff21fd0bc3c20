// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include <algorithm>
#include <limits>

namespace outboard {
namespace {
class MonotonicClock final : public Clock {
 public:
  Nanoseconds now() const override {
    return std::chrono::duration_cast<Nanoseconds>(
        std::chrono::steady_clock::now().time_since_epoch());
  }
};
}  // namespace

const Clock& Clock::monotonic() {
  static const MonotonicClock clock;
  return clock;
}

int Deadline::poll_timeout_ms(const Clock& clock) const {
  if (is_never()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(at - clock.now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, std::numeric_limits<int>::max()));
}

}  // namespace outboard
