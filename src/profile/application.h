// SPDX-License-Identifier: Apache-2.0
// An application: a stream of requests for one model, and what was promised to it. Plain values.
#pragma once

#include <string>
#include <vector>

namespace outboard::profile {

// "`percentile` % of the responses take at most `latency_ms`".
struct Limit {
  double percentile = 95;  // in (0, 100)
  double latency_ms = 0;   // > 0; 0 means that no limit was given
  bool operator==(const Limit&) const = default;
};

// How bursty a stream is, when no trace of it is kept: the squared coefficient of variation of the
// gaps (1 for Poisson) and the index of dispersion of counts, var N(t) / E N(t), at a time scale.
struct Burstiness {
  struct Idc {
    double window_s = 0;
    double value = 1;
    bool operator==(const Idc&) const = default;
  };
  double gap_scv = 1;
  std::vector<Idc> idc;
  bool operator==(const Burstiness&) const = default;
};

struct Application {
  std::string name;
  std::string model;  // ModelProfile::model; several applications may name the same one
  double rate_per_s = 0;
  Limit limit;
  std::string device;              // where it is (or is asked to be); empty: nowhere yet
  int priority = 0;                // Discipline::kPriority: the smallest goes first
  std::vector<double> arrivals_s;  // a recorded trace, ascending; empty: Poisson or `burstiness`
  Burstiness burstiness;           // read when there is no trace; the default is Poisson

  bool operator==(const Application&) const = default;
};

}  // namespace outboard::profile
