// SPDX-License-Identifier: Apache-2.0
// M/G/1 first come first served with model swaps, exactly: the whole distribution of the response
// of every model. swap_queue.cc opens with the derivation.
//
// Conditions: Poisson arrivals, independent services, one server, an unlimited queue, steady state.
// Error: on the lattice the solution is exact to about 1e-7 in probability; what remains is the
// rounding of services and gaps to the lattice. Rounding::kMean is of second order in the step;
// kUp and kDown bracket the truth rigorously (every percentile and every mean).
// Units: microseconds; rates per microsecond. Pure. Thread-safety: a SwapQueue is an immutable
// value; a SwapSolver may be used by one thread at a time (it keeps its tables between calls).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "manage/queueing/lattice.h"
#include "profile/distribution.h"

namespace outboard::manage {

// The requests for one model. `service` must be positive; `swap` is paid in addition when the
// request before it on the device was for another model.
struct SwapModel {
  double rate_per_us = 0;
  profile::Distribution service;
  profile::Distribution swap;
};

// lambda E[S + swap]: the share of time that the server is busy.
double utilisation(std::span<const SwapModel> models);

// Mean workload (virtual waiting time) in steady state, in continuous time, without a lattice:
// exact to rounding of double. kInvalid when unstable.
Result<double> mean_workload_us(std::span<const SwapModel> models);

// kInvalid: no model, a rate or service that is not positive, or an unstable load.
Result<void> check_models(std::span<const SwapModel> models);

// P(work > t) ~ C exp(-decay t). REQUIRES: check_models().
double decay_rate_per_us(std::span<const SwapModel> models);

class SwapQueue {
 public:
  // P(response of model j <= time).
  double response_cdf(std::size_t model, double time_us) const;
  // Smallest t with P(response <= t) >= probability; infinity past the lattice (a tail below 1e-4).
  double response_quantile_us(std::size_t model, double probability) const;
  double response_mean_us(std::size_t model) const;
  // P(work <= time and the last request was for model j), for one j and summed over all.
  double work_cdf(std::size_t model, double time_us) const;
  double work_cdf(double time_us) const;
  double mean_work_us() const { return mean_work_us_; }
  double utilisation() const { return utilisation_; }
  double step_us() const { return step_us_; }
  std::size_t points() const { return points_; }
  std::size_t models() const { return models_.size(); }
  // P(the device has no work, the last request was for model j).
  double idle(std::size_t model) const { return idle_[model]; }
  // Decay rate of the tail: P(work > t) ~ C exp(-decay t).
  double decay_per_us() const { return decay_per_us_; }

 private:
  friend class SwapSolver;
  std::vector<SwapModel> models_;
  std::vector<double> share_;  // p_j
  std::vector<double> idle_;   // one a model, and the sum at the end, as cdf_
  std::vector<double> cdf_;    // points_ values a model, and the sum over models at the end
  std::size_t points_ = 0;
  double step_us_ = 0;
  double mean_work_us_ = 0;
  double utilisation_ = 0;
  double decay_per_us_ = 0;
  Rounding rounding_ = Rounding::kMean;

  double at(std::size_t row, double time_us) const;
};

class SwapSolver {
 public:
  struct Options {
    std::size_t points = 512;  // a power of two; the lattice spans the queue's tail
    Rounding rounding = Rounding::kMean;
    double step_us = 0;  // 0: chosen so that the points reach a tail of 1e-4
  };

  SwapSolver();
  ~SwapSolver();
  SwapSolver(SwapSolver&&) noexcept;
  SwapSolver& operator=(SwapSolver&&) noexcept;

  // kInvalid: no model, a rate that is not positive, or an unstable load (the sentence has the
  // utilisation). Doubles the points where the shortest service needs a finer step, to 65,536.
  Result<SwapQueue> solve(std::span<const SwapModel> models, const Options& options);
  Result<SwapQueue> solve(std::span<const SwapModel> models) { return solve(models, Options{}); }

 private:
  struct Tables;
  std::unique_ptr<Tables> tables_;
};

}  // namespace outboard::manage
