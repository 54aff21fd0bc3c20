// SPDX-License-Identifier: Apache-2.0
// The queueing models as a Judge: exact where they are (one server, first come first served,
// Poisson arrivals), by seeded simulation elsewhere. Its screen is rigorous where theirs is. Pure.
// Thread-safety: one thread at a time (it keeps the models' tables).
#pragma once

#include <string>
#include <unordered_map>

#include "manage/place/judge.h"
#include "manage/queueing/predict.h"

namespace outboard::manage {

// The load as the queueing models and the simulator read it.
System system_of(const Load& load);

class QueueJudge : public Judge {
 public:
  // `requests`: how many a simulated answer is drawn from; fewer are quicker and have wider error
  // bounds, which a promise must then keep clear of.
  explicit QueueJudge(std::size_t requests = 100000);

  Result<Verdict> judge(const Load& load) override;
  Result<std::vector<Range>> screen(const Load& load) override;
  std::size_t cost(const Load& load) const override;

 private:
  System system_of(const Load& load);
  const profile::Distribution& outside_of(const LoadPart& part, const profile::Device& device);

  Predictor predictor_;
  Predictor::Options options_;
  // Before, after and network, convolved: by their atoms.
  std::unordered_map<std::string, profile::Distribution> outside_;
};

}  // namespace outboard::manage
