// SPDX-License-Identifier: Apache-2.0
#include "manage/simulate/sampler.h"

namespace outboard::manage {

Sampler::Sampler(const profile::Distribution& times) {
  std::vector<double> weights;
  for (const profile::Atom& atom : times.atoms()) {
    times_us_.push_back(atom.time_us);
    weights.push_back(atom.probability);
  }
  build(std::move(weights));
}

Sampler::Sampler(const std::vector<double>& weights) { build(weights); }

void Sampler::build(std::vector<double> weights) {
  const std::size_t n = weights.size();
  double total = 0;
  for (double w : weights) total += w;
  keep_.assign(n, 1.0);
  other_.assign(n, 0);
  std::vector<std::uint32_t> small, large;
  for (std::uint32_t i = 0; i < n; ++i) {
    weights[i] *= static_cast<double>(n) / total;
    (weights[i] < 1 ? small : large).push_back(i);
  }
  while (!small.empty() && !large.empty()) {
    const std::uint32_t s = small.back(), l = large.back();
    small.pop_back();
    keep_[s] = weights[s];
    other_[s] = l;
    weights[l] -= 1 - weights[s];
    if (weights[l] < 1) {
      large.pop_back();
      small.push_back(l);
    }
  }
}

}  // namespace outboard::manage
