// SPDX-License-Identifier: Apache-2.0
// Gives a plan times: every node computes one piece at a time, every interface sends one message
// and receives one message at a time (full duplex), a message holding both ends for delay + bytes /
// rate. Ready work is taken by image, then block, then order, or boundary rows first where the
// program says so; nothing waits for a barrier. Deterministic: the same input gives the same
// schedule, bit by bit. Pure; a Simulator is one thread's.
#pragma once

#include <vector>

#include "split/plan/layout.h"
#include "split/simulate/rate.h"

namespace outboard::split {

// What one task of one image did.
struct Span {
  int image = 0;
  int task = 0;  // in its program's layout
  double start_us = 0;
  double end_us = 0;
};

struct Schedule {
  double makespan_us = 0;
  std::vector<double> image_end_us;
  std::vector<double> busy_us;     // by node of the cluster: computing
  std::vector<double> sent_bytes;  // by node
  std::vector<Span> spans;         // in order of their end; only when asked for
};

struct SimulateOptions {
  bool keep_spans = false;
  double start_us = 0;  // where in the traces it begins
  // By link (from * nodes + to); empty, or an empty trace: constant.
  const std::vector<RateTrace>* rates = nullptr;
};

// layouts[i] is that of plan.programs[i].
Schedule simulate(const Cluster& cluster, const Plan& plan, const std::vector<Layout>& layouts,
                  const SimulateOptions& options = {});

}  // namespace outboard::split
