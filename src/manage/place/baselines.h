// SPDX-License-Identifier: Apache-2.0
// What others do, on the same fleet: for comparison, and to see what their promises are worth.
//
//   memory-first, -best, -worst  knapsack on memory, no latency: the first device by name, the one
//                     that is left with least, with most; one that has a copy of the model first
//                     (Ibis' baselines, github.com/umassos/ibis, placement_algorithms_trt.py,
//                     choose_node_memory)
//   ibis-breadth, -depth  Ibis (Liang et al., arXiv 2201.07312, and the same code): memory, and the
//                     mean response of queueing formulas below the limit, utilisation below 0.8;
//                     among the devices of a kind: with the model, idle, least used (breadth), or
//                     with the model, by name (depth); among kinds: least utilisation added
//   utilisation-units  MicroEdge (Edge accelerators as fractional units): sum of rate * service <=
//   1,
//                     first device by name
//   random            any device with memory
//
// Memory is used up to 0.8 of a device in all of them, as published.
// Pure; deterministic: random draws from the seed.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "manage/place/fleet.h"

namespace outboard::manage {

enum class Rule : std::uint8_t {
  kMemoryFirst,
  kMemoryBest,
  kMemoryWorst,
  kIbisBreadth,
  kIbisDepth,
  kUtilisationUnits,
  kRandom,
};
inline constexpr Rule kRules[] = {Rule::kMemoryFirst, Rule::kMemoryBest, Rule::kMemoryWorst,
                                  Rule::kIbisBreadth, Rule::kIbisDepth,  Rule::kUtilisationUnits,
                                  Rule::kRandom};
std::string_view name_of(Rule rule);

struct BaselineOptions {
  double memory_fraction = 0.8;
  double threshold = 0.8;  // Ibis: of the utilisation of device, host stage and front end
  std::uint64_t seed = 1;  // random
};

class Baseline {
 public:
  Baseline(Fleet& fleet, Rule rule, BaselineOptions options = {});
  // Where it goes, and puts it there; nothing: refused.
  std::optional<DeviceId> admit(AppId app);

  // Ibis' mean responses (ms) of every part, and the device's utilisation: exposed for tests.
  struct Means {
    std::vector<double> response_ms;
    double utilisation = 0;
  };
  static Means ibis_means(const Load& load);

 private:
  bool memory_fits(const Load& load) const;
  bool feasible(AppId app, DeviceId device) const;
  bool ibis_feasible(const Load& load) const;
  std::optional<DeviceId> choose(AppId app, const std::vector<DeviceId>& feasible);
  std::optional<DeviceId> choose_ibis(AppId app, const std::vector<DeviceId>& feasible) const;
  bool has_copy(AppId app, DeviceId device) const;

  Fleet& fleet_;
  Rule rule_;
  BaselineOptions options_;
  std::uint64_t random_;
};

}  // namespace outboard::manage
