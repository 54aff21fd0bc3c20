// SPDX-License-Identifier: Apache-2.0
#include "manage/place/load.h"

#include <algorithm>
#include <cmath>

namespace outboard::manage {

using profile::Discipline;

void add(Load& load, const LoadPart& part) {
  auto at = std::lower_bound(load.parts.begin(), load.parts.end(), part,
                             [](const LoadPart& a, const LoadPart& b) {
                               return a.application->name < b.application->name;
                             });
  if (at != load.parts.end() && at->application->name == part.application->name) {
    at->share = std::min(1.0, at->share + part.share);
  } else {
    load.parts.insert(at, part);
  }
}

std::uint64_t memory_bytes(const Load& load) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < load.parts.size(); ++i) {
    const LoadPart& part = load.parts[i];
    const bool first =
        std::none_of(load.parts.begin(), load.parts.begin() + static_cast<std::ptrdiff_t>(i),
                     [&](const LoadPart& other) { return other.copy == part.copy; });
    sum += part.profile->memory_per_application_bytes + (first ? part.profile->memory_bytes : 0);
  }
  return sum;
}

double utilisation(const Load& load) {
  const auto discipline = load.device->discipline;
  const bool swaps = discipline == Discipline::kFcfs || discipline == Discipline::kPriority ||
                     discipline == Discipline::kEdf;
  double total_per_s = 0;
  for (const LoadPart& part : load.parts) total_per_s += part.rate_per_s();
  double busy = 0;  // microseconds of work a second
  for (const LoadPart& part : load.parts) {
    double each_us = part.profile->service.mean_us();
    if (discipline == Discipline::kBatching && part.profile->batch) {
      const auto& batch = *part.profile->batch;
      each_us = batch.slope_us + batch.base_us / batch.max_batch;
    } else if (swaps && part.profile->swap.max_us() > 0) {
      double same_per_s = 0;
      for (const LoadPart& other : load.parts) {
        if (other.copy == part.copy) same_per_s += other.rate_per_s();
      }
      each_us += (1 - same_per_s / total_per_s) * part.profile->swap.mean_us();
    }
    busy += part.rate_per_s() * each_us;
  }
  const bool units = discipline == Discipline::kTimeShared ||
                     discipline == Discipline::kProcessorSharing ||
                     discipline == Discipline::kBatching;
  return busy * 1e-6 / (units ? 1 : load.device->servers);
}

profile::Burstiness thinned(const profile::Burstiness& burstiness, double share) {
  profile::Burstiness result = burstiness;
  result.gap_scv = 1 + share * (burstiness.gap_scv - 1);
  for (auto& point : result.idc) point.value = 1 + share * (point.value - 1);
  return result;
}

std::vector<double> thinned(const std::vector<double>& arrivals_s, double share) {
  if (share >= 1) return arrivals_s;
  constexpr double kGolden = 0.6180339887498949;
  std::vector<double> kept;
  for (std::size_t n = 0; n < arrivals_s.size(); ++n) {
    const double turn = static_cast<double>(n) * kGolden;
    if (turn - std::floor(turn) < share) kept.push_back(arrivals_s[n]);
  }
  return kept;
}

}  // namespace outboard::manage
