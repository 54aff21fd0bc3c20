// SPDX-License-Identifier: Apache-2.0
// What models cost each other on one device: the swap that a change of model costs, and the
// slow-down while several run at once.
//
// Swap: the models take turns, two Runs each; the first comes after another model, the second after
// its own. The median over the rounds of their difference is the swap; pairs a few milliseconds
// apart see the same clock rate and the same neighbours, so drift cancels.
// Slow-down: every model runs in a loop on a thread of its own. Fair sharing alone makes n models n
// times as slow; slow_down_per_other^(n-1) is what is left of the ratio to the Runs alone (the
// second ones above), and 1 where there is nothing left (a device that serves one after the other).
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cli/profile_measure.h"

namespace outboard::cli {

struct TogetherOptions {
  double duration_s = 5;  // half for the turns, half at once
  int min_rounds = 5;
};

// Times of one model, in microseconds inside the engine.
struct TogetherTimes {
  std::vector<double> after_other_us;  // one a round
  std::vector<double> after_own_us;    // one a round
  std::vector<double> at_once_us;

  double swap_us() const;  // 0 without a round
  // Of n models at once; 1 when there were no Runs at once.
  double slow_down_per_other(std::size_t models) const;
};

struct Together {
  std::vector<TogetherTimes> models;  // as the subjects
  bool interrupted = false;           // what was measured until then is kept
  std::optional<Error> failure;       // likewise
};

// REQUIRES: two subjects at least; different subjects may run on different threads.
Together measure_together(std::span<Subject* const> subjects, const TogetherOptions& options,
                          const std::atomic<bool>& stop, const Clock& clock,
                          const std::function<void(const std::string&)>& progress = {});

}  // namespace outboard::cli
