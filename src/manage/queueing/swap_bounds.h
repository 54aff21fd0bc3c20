// SPDX-License-Identifier: Apache-2.0
// Rigorous bounds on the percentiles of the queue with swaps, in microseconds of work: a placement
// admits or refuses most newcomers by them and solves the queue for the rest.
//
// With eta the decay rate of the workload and l_j the positive solution of
//   l_j (lambda + eta) / lambda = p_j b_j l_j + b_j o_j (1 - p_j l_j),  sum p_j l_j = 1,
// b_j = E e^(eta S_j), o_j = E e^(eta O_j), the walk that the workload is the maximum of (backwards
// from an arrival; each step S_j - A, or S_j + O_j - A when the request before was for another
// model) makes l_J e^(eta walk) a martingale. Stopped where it passes t it has overshot by at most
// the longest request, so
//   l_j e^(-eta (t + longest)) / max l <= P(V > t | J = j) <= l_j e^(-eta t) / min l
// (Lundberg's inequality for a Markov-modulated walk; Asmussen, "Ruin Probabilities", ch. VII).
// Pure; thread-safe.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "manage/queueing/swap_queue.h"

namespace outboard::manage {

class SwapBounds {
 public:
  // kInvalid as check_models.
  static Result<SwapBounds> of(std::span<const SwapModel> models);
  // The smallest t for which P(response of model j > t) <= 1 - probability is certain, and a t
  // below which it is certainly not. Lower is at least the quantile of the service itself.
  double upper_us(std::size_t model, double probability) const;
  double lower_us(std::size_t model, double probability) const;
  double decay_per_us() const { return decay_per_us_; }

 private:
  struct Model {
    double share, weight;     // p_j, l_j
    double service, swapped;  // E e^(eta S_j), E e^(eta (S_j + O_j))
    double least_us;          // shortest service
    profile::Distribution times;
  };
  std::vector<Model> models_;
  double decay_per_us_ = 0;
  double least_weight_ = 0;
  double most_weight_ = 0;
  double longest_us_ = 0;
};

}  // namespace outboard::manage
