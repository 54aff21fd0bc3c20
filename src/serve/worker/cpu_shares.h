// SPDX-License-Identifier: Apache-2.0
// How the kernel shares the processor between workers: by the nice of their threads. A worker
// begins with what its tenant's weight asks for (nice_of), and as its tenant uses more than its
// share it goes down in steps, and up again as it uses less. So a tenant that asks now and then has
// nearly all of the processor for the moment that it needs, beside one that floods; two that flood
// go down together and share by weight.
//
// For a worker that used u_i cores lately (a mean that forgets, kMemory), with weight w_i among all
// that have models open:
//
//   share_i = max(sum of u, an eighth of the machine) * w_i / sum of w
//   steps_i = kStepsADouble * clamp(u_i / share_i - 1, 0, 1), to the next whole one
//
// Pure, not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/clock.h"

namespace outboard::serve {

// A tenant's weight as a priority of its worker's threads: each step of nice is a factor of 1.25
// for the kernel. A weight of 1 is 5, so that three times it is 0.
int nice_of(double weight);
inline constexpr int kLowestNice = 19;

class CpuShares {
 public:
  static constexpr Nanoseconds kMemory = std::chrono::seconds(1);
  static constexpr double kStepsADouble = 10;  // the kernel's weight becomes a ninth

  explicit CpuShares(double cores) : cores_(cores) {}

  struct Worker {
    std::int64_t pid = 0;
    double weight = 1;
    Nanoseconds cpu_time{};  // of its life
  };
  struct Priority {
    std::int64_t pid = 0;
    int nice = 0;
  };
  // All workers that have models open, `now`; one that is seen for the first time has used nothing
  // yet. The priorities of all of them.
  std::vector<Priority> look(const std::vector<Worker>& workers, Nanoseconds now);

 private:
  struct Use {
    Nanoseconds cpu_time{}, at{};
    double cores = 0;
  };
  const double cores_;
  std::map<std::int64_t, Use> uses_;  // by process
};

}  // namespace outboard::serve
