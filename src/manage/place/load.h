// SPDX-License-Identifier: Apache-2.0
// A device and what is (or would be) on it: the question that a placement asks of a latency model,
// and the quick facts that need no model (memory, utilisation).
//
// Lifetime: borrows devices, applications and profiles from the Fleet (or the test) that made it.
// Pure. Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <vector>

#include "profile/cluster.h"

namespace outboard::manage {

// One application's requests, or a share of them, on the device.
struct LoadPart {
  const profile::Application* application = nullptr;
  const profile::ModelProfile* profile = nullptr;  // of its model on the device's kind
  double share = 1;                                // of the application's requests, in (0, 1]
  // Parts with the same number run on one copy of the model: memory once, no swap between them.
  int copy = 0;

  double rate_per_s() const { return application->rate_per_s * share; }
};

struct Load {
  const profile::Device* device = nullptr;
  std::vector<LoadPart> parts;  // by application name, so that a load has one form
};

// Adds in order; joins an application that is there already (a share that came back to it).
void add(Load& load, const LoadPart& part);

// The models once a copy, and what every application adds.
std::uint64_t memory_bytes(const Load& load);

// The share of time that the device's servers are busy. FCFS disciplines: with the expected swaps,
// sum_i rate_i (S_i + (1 - p_i) O_i), p_i the probability that the request before was for the same
// copy (Poisson streams merge at random); batching: at the largest batches; else sum_i rate_i S_i.
double utilisation(const Load& load);

// The burstiness of a share of a stream, each request going to it or not at random:
// c^2 -> 1 + share (c^2 - 1), and the same for the index of dispersion (thinning of a point
// process: Cox and Isham, "Point Processes", 1980, section 4.3).
profile::Burstiness thinned(const profile::Burstiness& burstiness, double share);
// The same of a trace: request n stays when the fractional part of n * golden ratio is below
// `share`, which spreads them evenly and is the same every time.
std::vector<double> thinned(const std::vector<double>& arrivals_s, double share);

}  // namespace outboard::manage
