// SPDX-License-Identifier: Apache-2.0
// Random and published systems for the tests of the queueing models.
#pragma once

#include <rapidcheck.h>

#include "manage/queueing/swap_queue.h"
#include "manage/queueing/system.h"

namespace outboard::manage {

// One to six models; services 1 to 100 ms, constant or of a few atoms; swaps 0 to 60 ms (some are
// none at all), popularity 1 to 20. Scaled to a utilisation in [low, high] %.
inline std::vector<SwapModel> any_models(int low_percent, int high_percent) {
  using profile::Distribution;
  std::vector<SwapModel> models(static_cast<std::size_t>(*rc::gen::inRange(1, 7)));
  auto times = [](int least, int most) {
    std::vector<profile::Atom> atoms;
    for (int i = *rc::gen::element(1, 1, 3); i > 0; --i) {
      atoms.push_back(
          {*rc::gen::inRange(least, most) * 1e3, static_cast<double>(*rc::gen::inRange(1, 5))});
    }
    return *Distribution::from_atoms(std::move(atoms));
  };
  for (SwapModel& m : models) {
    m.rate_per_us = *rc::gen::inRange(1, 20) * 1e-6;
    m.service = times(1, 100);
    if (*rc::gen::inRange(0, 4) > 0) m.swap = times(0, 60);
  }
  const double target = *rc::gen::inRange(low_percent, high_percent + 1) / 100.0;
  const double factor = target / utilisation(models);
  for (SwapModel& m : models) m.rate_per_us *= factor;
  return models;
}

inline System system_of_models(const std::vector<SwapModel>& models) {
  System system;
  for (std::size_t j = 0; j < models.size(); ++j) {
    Stream s;
    s.name = "m" + std::to_string(j);
    s.model = static_cast<int>(j);
    s.rate_per_s = models[j].rate_per_us * 1e6;
    s.service = models[j].service;
    s.swap = models[j].swap;
    system.streams.push_back(s);
  }
  return system;
}

}  // namespace outboard::manage
