// SPDX-License-Identifier: Apache-2.0
// How the rate of a link changes over time: constant, a trace, or a seeded random process. Pure and
// deterministic; units in the names.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace outboard::split {

// Piecewise constant: factor[i] of the link's own rate from start_us[i] on, repeated with the
// period.
struct RateTrace {
  std::vector<double> start_us;  // ascending, from 0
  std::vector<double> factor;    // > 0, as many
  double period_us = 0;          // 0: the last factor holds for ever

  bool empty() const { return factor.empty(); }
  double factor_at(double time_us) const;
  // When `size_bytes` that start at `start` are through a link of this rate.
  double end_us(double start, double size_bytes, double rate_bytes_per_s) const;
};

// A Gauss-Markov process around 1 (standard deviation `sd`, correlation exp(-step / coherence)),
// never below `floor`.
RateTrace gauss_markov(std::uint64_t seed, double sd, double coherence_us, double step_us,
                       double length_us, double floor = 0.05);

}  // namespace outboard::split
