// SPDX-License-Identifier: Apache-2.0
// Runs a model again and again and keeps what each Run took. What is run, and where, is the
// subject's matter; what is made of the times is the report's.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace outboard::cli {

// Where the time of one Run went, in microseconds. A local Run only computes.
struct RunTimes {
  double total_us = 0;
  double send_us = 0;     // handing the request to the kernel
  double queue_us = 0;    // waiting for the server's device
  double compute_us = 0;  // inside the engine
  double receive_us = 0;  // the reply's bytes
  std::uint64_t request_bytes = 0;
  std::uint64_t reply_bytes = 0;
  double server_receive_us = 0;  // first to last byte of the request, at the server
};

// A model that is opened somewhere and has its inputs. One thread at a time.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual Result<RunTimes> run() = 0;
};

struct MeasureOptions {
  int warm_up_runs = 3;  // not kept
  double duration_s = 5;
  int min_runs = 5;        // even when the duration is over
  int max_runs = 100'000;  // ends it before the duration does; bounds the memory of the times
};

struct Measurement {
  std::vector<RunTimes> runs;
  bool interrupted = false;      // `stop` was set before it was done
  std::optional<Error> failure;  // a Run failed; those before it are kept
};

// `progress` is called after every Run with what is there so far and the seconds it took.
using MeasureProgress = std::function<void(const Measurement&, double elapsed_s)>;
Measurement measure(Subject& subject, const MeasureOptions& options, const std::atomic<bool>& stop,
                    const Clock& clock, const MeasureProgress& progress = {});

// This process' resident memory, after what the allocator holds in reserve was given back. 0 where
// it cannot be read.
std::uint64_t trimmed_resident_bytes();

}  // namespace outboard::cli
