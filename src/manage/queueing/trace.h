// SPDX-License-Identifier: Apache-2.0
// May what was recorded be taken for the future? A trace answers exactly for itself (a Lindley
// recursion over it, simulate.h); for tomorrow only if it does not change within itself and the
// answer does not hang on a little more load.
//
// Two tests, at the percentile that is asked for, on every stream:
//   steady     the trace in four parts, each answered alone: rates within 1.5 of each other, and
//              percentiles too
//   robust     the trace with all gaps a quarter shorter load-wise (rate x 1.25): the percentile
//   grows
//              by less than 1.5
// They are what keeps an answer within a factor of 1.5 of what came after on production traces
// (bench/run queueing: fitted on the first 60 % of two published traces, judged on the rest).
// Pure; thread-safe.
#pragma once

#include "base/result.h"
#include "manage/queueing/system.h"

namespace outboard::manage {

struct Trust {
  double rate_spread = 1;        // largest rate of a part over the smallest
  double percentile_spread = 1;  // the same of the percentiles
  double growth = 1;             // percentile at 1.25 times the rate over that at the rate
};

// REQUIRES: every stream has a trace. kRefused: a stream with fewer than 400 arrivals.
Result<Trust> trust_in(const System& system, std::uint64_t seed);

// kRefused with the reason when the traces (or, for a stream without one, its dispersion, which
// must have stopped growing at its longest window) cannot be trusted for the future.
Result<void> check_future(const System& system, std::uint64_t seed);

}  // namespace outboard::manage
