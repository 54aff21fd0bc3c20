// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_measure.h"

#include <malloc.h>

#include <chrono>
#include <utility>

#include "base/memory.h"

namespace outboard::cli {

Measurement measure(Subject& subject, const MeasureOptions& options, const std::atomic<bool>& stop,
                    const Clock& clock, const MeasureProgress& progress) {
  Measurement measurement;
  for (int i = 0; i < options.warm_up_runs; ++i) {
    if (stop) break;
    auto times = subject.run();
    if (!times) {
      measurement.failure = std::move(times).error().while_doing("running it for the first time");
      return measurement;
    }
  }
  const Nanoseconds begin = clock.now();
  for (;;) {
    const int count = static_cast<int>(measurement.runs.size());
    const double measured_s = std::chrono::duration<double>(clock.now() - begin).count();
    if (count >= options.max_runs) break;
    if (count >= options.min_runs && measured_s >= options.duration_s) break;
    if (stop) {
      measurement.interrupted = true;
      break;
    }
    auto times = subject.run();
    if (!times) {
      measurement.failure = std::move(times).error();
      break;
    }
    measurement.runs.push_back(*times);
    if (progress) progress(measurement, measured_s);
  }
  return measurement;
}

std::uint64_t trimmed_resident_bytes() {
  malloc_trim(0);
  return resident_bytes();
}

}  // namespace outboard::cli
