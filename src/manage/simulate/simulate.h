// SPDX-License-Identifier: Apache-2.0
// The judge: an event simulation of a device under every discipline of profile::Discipline.
//
//   fcfs          one queue, `servers` units, the one that is free first serves; each pays the swap
//                 when its last request was for another model
//   priority, edf as fcfs, the next request by (priority, arrival) or by arrival + limit
//   time-shared   a queue a model, first come first served in it; n busy queues run at 1/n each,
//                 divided by the model's slow_down_per_other^(n-1); no swaps
//   processor-sharing  every request at 1/n, n the requests there
//   batching      a queue a model; the model whose first request is oldest takes a batch of up to
//                 max_batch, at once when it is full, else when its first has waited batch_wait
//
// Arrivals are Poisson, modulated (MMPP(2)) or a trace, as the streams say. Seeded: the same seed,
// the same result, on every machine. Confidence intervals are from 20 batch means (Student's t).
// Pure. Thread-safety: simulate() may be called by several threads.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "manage/queueing/system.h"

namespace outboard::manage {

struct SimulateOptions {
  std::uint64_t seed = 1;
  // Over all streams, after the warm-up. A system whose streams are all traces runs them to their
  // end instead, without a warm-up.
  std::size_t requests = 400000;
  double warm_up = 0.05;  // share of `requests` that is simulated and not counted
};

struct Estimate {
  double value = 0;
  double error = 0;  // half width of the 99 % confidence interval
};

struct SimulatedStream {
  std::vector<float> responses_us;  // in the order of their ends
  double service_us = 0;            // mean
  double swap_us = 0;               // mean
  double sharing_us = 0;            // mean: what others took while it was served

  Estimate mean() const;
  Estimate quantile(double probability) const;
  Estimate late(double limit_us) const;
};

struct Simulated {
  std::vector<SimulatedStream> streams;
  std::uint64_t events = 0;  // arrivals and ends
  double busy = 0;           // share of time that a server was busy
};

// kInvalid as check_system; a trace may be unstable, everything else must be stable.
Result<Simulated> simulate(const System& system, const SimulateOptions& options);

}  // namespace outboard::manage
