// SPDX-License-Identifier: Apache-2.0
// What a Run costs, here or on a server, term by term: the one place that decides where a Run goes,
// and what the figures are compared with.
//
//   local  = queue + compute
//   remote = call + [delay_up + request / rate_up] + queue + compute + [delay_down + reply /
//   rate_down]
//            overhead         send                  wait             receive
//
// `call` is what a remote Run takes beyond the link and the engine (frames, system calls, threads
// waking up). The terms are in series: a Run computes once its request is there, and its reply
// leaves once it has computed. Times in microseconds; a mean goes in and a mean comes out; with
// percentiles of the terms the sum is a bound for that percentile only when they are the same
// request's (it is exact when all but one of the terms are constant).
// Pure; thread-safe. Linked into interposers: no JSON, no allocation.
#pragma once

#include <cstdint>

#include "profile/link.h"

namespace outboard::profile {

// What a Run moves: the bytes of its request and of its reply, headers included.
struct RunSize {
  std::uint64_t request_bytes = 0;
  std::uint64_t reply_bytes = 0;
};

// A side that could do the Run.
struct Engine {
  double compute_us = 0;  // inside the engine
  double queue_us = 0;    // what waits or computes there already
};

struct RunCost {
  double overhead_us = 0;
  double send_us = 0;
  double queue_us = 0;
  double compute_us = 0;
  double receive_us = 0;

  double total_us() const { return overhead_us + send_us + queue_us + compute_us + receive_us; }
};

RunCost local_cost(const Engine& device);
RunCost remote_cost(const Engine& server, const LinkPair& link, const RunSize& size,
                    double call_us);

// How long a Run that arrives now waits, first come first served, behind `ahead` others, each of
// `service_us`, on a device that does `servers` at once: 0 while a server is free. Else it starts
// when k = ahead - servers + 1 of them have ended. The servers are at independent, evenly
// distributed points of their work, whose j-th smallest rest is service * j / (servers + 1); so,
// with k = q * servers + j and 1 <= j <= servers, the wait is service * (q + j / (servers + 1)).
// One server: service * (ahead - 1/2), the mean residual of a constant service and the others
// whole.
double queue_wait_us(std::uint32_t ahead, std::uint32_t servers, double service_us);

}  // namespace outboard::profile
