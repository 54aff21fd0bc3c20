// SPDX-License-Identifier: Apache-2.0
// The workloads of the placement benchmark: the paper's set-up (Liang et al., arXiv 2201.07312) as
// far as it is published, and what had to be supposed. See docs/placement.md for the tables.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "profile/cluster.h"

namespace outboard::bench {

struct WorkloadOptions {
  int tpus = 0, gpus = 0, cpus = 0;
  bool share_models = true;
  double percentile = 95;
  double model_memory_factor = 1;  // on the memory of every model
  double device_memory_bytes = 4e9;
  double rate_least_per_s = 5, rate_most_per_s = 10;
  std::size_t applications = 400;
  std::uint64_t seed = 1;
  // Arrivals of a trace (s): every application takes a stretch of it, at its own rate. Empty:
  // Poisson.
  std::vector<double> trace_s;
  std::size_t trace_requests = 2000;  // of a stretch
};

// Devices without applications, and the applications that ask to be placed, in their order (in
// Cluster::applications).
profile::Cluster make_workload(const WorkloadOptions& options);

// The arrivals that the application with this number has later: the next stretch of the trace.
std::vector<double> later_arrivals(const WorkloadOptions& options, std::size_t number,
                                   double rate_per_s);

}  // namespace outboard::bench
