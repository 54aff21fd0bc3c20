// SPDX-License-Identifier: Apache-2.0
// The arrivals of all streams of a system, merged in time: Poisson, a Markov-modulated Poisson
// process of two states fitted to a stream's statistics, or a recorded trace.
// Thread-safety: one thread. Units: microseconds.
#pragma once

#include <vector>

#include "manage/queueing/mmpp.h"
#include "manage/queueing/system.h"
#include "manage/simulate/random.h"
#include "manage/simulate/sampler.h"

namespace outboard::manage {

class Arrivals {
 public:
  struct Next {
    double time_us;  // infinity: no more (every stream is a trace that has ended)
    int stream;
  };
  // Borrows the system. Streams with a trace start when the earliest trace does.
  Arrivals(const System& system, Random& random);
  Next next();
  bool all_traces() const { return all_traces_; }
  bool any_trace() const { return any_trace_; }

 private:
  struct Source {
    const Stream* stream;
    Mmpp2 mmpp;
    int state = 0;
    double next_us = 0;
    std::size_t index = 0;
  };
  void advance(Source& source);

  Random& random_;
  std::vector<Source> sources_;  // empty when every stream is Poisson: one merged process
  Sampler which_;
  double gap_us_ = 0;
  double now_us_ = 0;
  double origin_s_ = 0;
  bool all_traces_ = true;
  bool any_trace_ = false;
};

}  // namespace outboard::manage
