// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/cpu_shares.h"

#include <algorithm>
#include <cmath>

namespace outboard::serve {
namespace {

constexpr int kNiceOfOne = 5;
constexpr double kFactor = 1.25;
constexpr double kIdle = 4;  // a machine of which they use less has enough for all

double seconds(Nanoseconds time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

int nice_of(double weight) {
  const double steps = std::log(std::max(weight, 1e-6)) / std::log(kFactor);
  return std::clamp(kNiceOfOne - static_cast<int>(std::lround(steps)), 0, kLowestNice);
}

std::vector<CpuShares::Priority> CpuShares::look(const std::vector<Worker>& workers,
                                                 Nanoseconds now) {
  std::map<std::int64_t, Use> uses;
  double used = 0, weights = 0;
  for (const Worker& worker : workers) {
    const auto before = uses_.find(worker.pid);
    Use use{worker.cpu_time, now, 0};
    if (before != uses_.end()) {
      use.cores = before->second.cores;
      if (const double passed = seconds(now - before->second.at); passed > 0) {
        const double lately = seconds(worker.cpu_time - before->second.cpu_time) / passed;
        use.cores += (1 - std::exp(-passed / seconds(kMemory))) * (lately - use.cores);
      }
    }
    used += use.cores;
    weights += worker.weight;
    uses.emplace(worker.pid, use);
  }
  uses_ = std::move(uses);
  const double fair = std::max(used, cores_ / kIdle) / weights;
  double most = 0;
  for (const Worker& worker : workers)
    most = std::max(most, uses_.at(worker.pid).cores / worker.weight);
  std::vector<Priority> priorities;
  for (const Worker& worker : workers) {
    const double own = uses_.at(worker.pid).cores / worker.weight;
    double steps = kSteps * std::clamp(kGain * (own / fair - 1), 0.0, 1.0);
    if (steps > 0)
      steps = std::clamp(kSteps - kApart * std::log(most / own) / std::log(kFactor), 0.0, steps);
    const int nice = nice_of(worker.weight) + static_cast<int>(std::lround(steps));
    priorities.push_back({worker.pid, std::min(nice, kLowestNice), steps >= kSteps});
  }
  return priorities;
}

}  // namespace outboard::serve
