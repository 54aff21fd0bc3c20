// SPDX-License-Identifier: Apache-2.0
// Does everything on a device keep its promise? The one test that every placement, move and reserve
// of this folder rests on.
//
// A promise holds when percentile + error <= (1 - margin) * limit for every part, memory fits and
// the device is stable. An application without a limit holds where the device is stable.
// Pure. Thread-safety: as the Judge.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "manage/place/judge.h"
#include "manage/place/load.h"

namespace outboard::manage {

struct Promise {
  double margin = 0.1;           // of every limit, kept free
  double memory_fraction = 1.0;  // of a device's memory that may be used
  double utilisation = 0.95;     // no load above it is looked at
};

enum class Breach : std::uint8_t {
  kNone = 0,
  kNoProfile,    // the model has no profile for the device's kind
  kPinned,       // it may not be on this device
  kApart,        // one of its group is there
  kMemory,       // `by` is the missing bytes
  kUtilisation,  // `by` is the utilisation
  kLatency,      // `by` is how much of the limit is missing, us; margin and error included
  kNoModel,      // the latency model refused; `detail` says why
  kReserve,      // limits would break after the loss of a device
};

// Of one device. `part` is the place in the load of the part whose limit breaks worst.
struct Finding {
  Breach breach = Breach::kNone;
  std::size_t part = 0;
  double by = 0;
  std::string detail;
  Verdict verdict;  // empty unless the judge was asked and answered

  bool holds() const { return breach == Breach::kNone; }
};

// What a part may take at its percentile, its reply's error not yet taken off. Infinity: no limit.
double allowed_us(const LoadPart& part, const Promise& promise);

// Memory and utilisation only: no judge. kNone: not excluded.
Finding check_quickly(const Load& load, const Promise& promise);
// The screen as well: a breach that is certain, or (with `likely`) all but certain. kNone: not
// excluded.
Finding check_bounds(const Load& load, Judge& judge, const Promise& promise, bool likely = true);
// The whole test.
Finding check(const Load& load, Judge& judge, const Promise& promise);

}  // namespace outboard::manage
