// SPDX-License-Identifier: Apache-2.0
// Draws from a Distribution in constant time (Walker's alias method). Immutable; thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "manage/simulate/random.h"
#include "profile/distribution.h"

namespace outboard::manage {

class Sampler {
 public:
  explicit Sampler(const profile::Distribution& times);
  // From weights alone: draws an index.
  explicit Sampler(const std::vector<double>& weights);

  double draw(Random& random) const { return times_us_[index(random)]; }
  std::size_t index(Random& random) const {
    if (keep_.size() == 1) return 0;
    const double u = random.uniform() * static_cast<double>(keep_.size());
    const auto i = static_cast<std::size_t>(u);
    return u - static_cast<double>(i) < keep_[i] ? i : other_[i];
  }

 private:
  void build(std::vector<double> weights);

  std::vector<double> times_us_;
  std::vector<double> keep_;
  std::vector<std::uint32_t> other_;
};

}  // namespace outboard::manage
