// SPDX-License-Identifier: Apache-2.0
// When a Run that a server has not answered is begun on another side as well (a hedged request:
// Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013). Pure; microseconds.
//
// Without a deadline: after kFactor times the 99th percentile of what Runs take there, and never
// before two heartbeats of the server are due; as long as that percentile is not known, after what
// is unusual by what is known, and never before four. With a deadline D: when what is left of D is
// just enough for the other side, L, but not before the percentile, so that no more than one Run in
// a hundred is begun twice while the server is as it was:
//
//   after = min(late, max(D - kMargin * L, p99))        L known and below D
//
// Sooner, where bytes of the Run move and a forecast from them (forecast.h) says that it is being
// overtaken: it has taken longer than hardly any does (`usual`), and what is left of it is more
// than kMargin times what the other side would take from now. So a Run on a link that is slow, as
// ever, and still the better side, is left alone.
//
// What a server that is well may cost is bounded as well: kShare of its Runs and kBurst. A server
// that is silent (not even a heartbeat came for kSilentUs) or very late (twice `after`, gone by or
// forecast) is not.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/limits.h"

namespace outboard::intercept {

struct HedgeInput {
  double p99_us = 0;       // of Runs like this there; 0: not known
  double bound_us = 0;     // Level::bound(); 0: not known
  double expected_us = 0;  // 0: not known
  double other_us = 0;     // what the other side would take; 0: not known
  double deadline_us = 0;  // 0: none was given
};

class HedgeRule {
 public:
  static constexpr double kHeartbeatUs =
      static_cast<double>(std::chrono::microseconds(limits::kHeartbeatInterval).count());
  static constexpr double kSilentUs = 2 * kHeartbeatUs;
  static constexpr double kUnknownUs = 4 * kHeartbeatUs;
  static constexpr double kFactor = 2, kMargin = 1.25;
  static constexpr double kShare = 0.01;
  static constexpr std::uint64_t kBurst = 8;

  // From the Run's beginning.
  static constexpr double after_us(const HedgeInput& in) {
    const double late = in.p99_us > 0
                            ? std::max(kFactor * in.p99_us, kSilentUs)
                            : std::max({kUnknownUs, in.bound_us, kFactor * in.expected_us});
    if (in.deadline_us <= 0) return late;
    if (in.other_us <= 0) return std::min(late, in.deadline_us / 2);
    const double usual = in.p99_us > 0 ? in.p99_us : std::max(in.bound_us, in.expected_us);
    if (in.other_us >= in.deadline_us) return late;  // it cannot keep the deadline either
    return std::min(late, std::max(in.deadline_us - kMargin * in.other_us, usual));
  }

  // What hardly any Run takes longer than, from its beginning.
  static constexpr double usual_us(const HedgeInput& in) {
    const double bound = in.bound_us > 0 ? in.bound_us : kFactor * in.expected_us;
    if (in.p99_us > 0 && bound > 0) return std::min(in.p99_us, bound);
    return in.p99_us > 0 ? in.p99_us : bound > 0 ? bound : kUnknownUs;
  }

  struct Moment {
    double elapsed_us = 0, after_us = 0;
    double unheard_us = 0;                   // since the server said anything about this Run
    std::uint64_t answered = 0, hedged = 0;  // Runs at this server so far
    double usual_us = 0;
    double left_us = 0;   // forecast, at least; 0: not known
    double other_us = 0;  // what the other side would take from now on; 0: not known
  };
  static constexpr bool is_silent(const Moment& m) { return m.unheard_us >= kSilentUs; }
  // Slower than Runs there are, by a forecast.
  static constexpr bool is_slow(const Moment& m) {
    return m.left_us > 0 && m.elapsed_us >= m.usual_us;
  }
  static constexpr bool is_being_overtaken(const Moment& m) {
    return is_slow(m) && m.other_us > 0 && m.left_us > kMargin * m.other_us;
  }
  static constexpr bool may_begin(const Moment& m) {
    if (m.elapsed_us < m.after_us && !is_being_overtaken(m)) return false;
    const double budget = static_cast<double>(kBurst) + kShare * static_cast<double>(m.answered);
    return is_silent(m) || m.elapsed_us + m.left_us >= 2 * m.after_us ||
           static_cast<double>(m.hedged) < budget;
  }
};

}  // namespace outboard::intercept
