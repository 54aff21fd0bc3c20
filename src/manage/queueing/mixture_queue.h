// SPDX-License-Identifier: Apache-2.0
// The screen: M/G/1 first come first served with swaps, as if services were independent.
//
// A request of model j takes S_j with probability p_j and S_j + O_j else, whatever came before, so
// W'(t) = lambda [W(t) - E W(t - X)], W(0) = 1 - rho (Takacs; every book on M/G/1). It neglects
// that requests of one model come in runs and is low in the tail where swaps are long beside
// services and one model is rare (tests/manage measure how much); without swaps it is exact. One
// model per device needs no correction at all. Pure. Thread-safety: a MixtureQueue may be solved by
// one thread at a time and read by many.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "manage/queueing/swap_queue.h"

namespace outboard::manage {

class MixtureQueue {
 public:
  // Replaces what was solved before, keeping the memory. kInvalid as check_models. `points` (a few
  // hundred) are spread over the tail to 1e-3.
  Result<void> solve(std::span<const SwapModel> models, std::size_t points = 512);

  double response_cdf(std::size_t model, double time_us) const;
  double response_quantile_us(std::size_t model, double probability) const;
  double response_mean_us(std::size_t model) const;
  double work_cdf(double time_us) const;
  // Exact for independent services (Pollaczek-Khinchine).
  double mean_work_us() const { return mean_work_us_; }
  // E[(x - W)^+ complement]: int_0^x (x - t) P(W > t) dt, for the variance of processor sharing.
  double tail_moment_us2(double time_us) const;
  double utilisation() const { return utilisation_; }

 private:
  std::span<const double> lattice() const { return {padded_.data() + padding_, points_}; }

  std::vector<SwapModel> models_;
  std::vector<double> share_;
  std::vector<double> padded_;  // zeros, so that no index is negative, then P(W <= n)
  std::size_t padding_ = 0;
  std::size_t points_ = 0;
  double step_us_ = 0;
  double mean_work_us_ = 0;
  double utilisation_ = 0;
  double decay_per_us_ = 0;
};

}  // namespace outboard::manage
