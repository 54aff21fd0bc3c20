// SPDX-License-Identifier: Apache-2.0
// How the kernel shares the processor between workers: by the nice of their threads. A worker
// begins with what its tenant's weight asks for (nice_of), and as its tenant uses more than its
// share it goes down in steps, and up again as it uses less. So a tenant that asks now and then has
// nearly all of the processor for the moment that it needs, beside one that floods; two that flood
// go down together and share by weight.
//
// For a worker that used u_i cores lately (a mean that forgets, kMemory), with weight w_i among all
// that have models open, idle ones too:
//
//   r_i = u_i / w_i,  r = max(sum of u, a quarter of the machine) / sum of w
//   steps_i = kSteps * clamp(kGain * (r_i / r - 1), 0, 1), to the next whole one,
//             and at most kSteps - kApart * log_1.25(max r / r_i)
//
// A worker that floods has several threads on a core, each with the weight of its nice, so it has
// to go down far, and soon: with ten steps for twice its share, four threads had as much of a core
// as the one that they were to give way to. With all of the steps it yields, too: its threads get
// the kernel's policy for idle time (SCHED_IDLE), because one of another nice goes on to the end of
// its slice (4 ms) before it makes room, and comes back for one now and then: a mean of an eighth,
// but a p95 of as much again and more. Beside many that are idle one that asks now and then is
// beyond its share, too; the second line keeps it above the one that floods. Between two that flood
// it settles: a look corrects look / kMemory * (1 + kGain * kSteps * ln(1.25) / 2) = 0.7 of an
// error.
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
  static constexpr double kSteps = 14;  // the kernel's weight becomes a 23rd
  static constexpr double kGain = 4;    // as soon as it uses a quarter more than its share
  static constexpr double kApart = 2;

  explicit CpuShares(double cores) : cores_(cores) {}

  struct Worker {
    std::int64_t pid = 0;
    double weight = 1;
    Nanoseconds cpu_time{};  // of its life
  };
  struct Priority {
    std::int64_t pid = 0;
    int nice = 0;
    bool yields = false;  // is as far down as it can be: it gets what nobody else wants
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
