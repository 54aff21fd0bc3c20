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

// A part of an application's requests on one device; the parts of one application sum to 1.
struct Replica {
  std::string device;
  double share = 1;  // in (0, 1]
  bool operator==(const Replica&) const = default;
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

  // What a placement may do with it, and what it did.
  std::vector<std::string> pinned;  // the devices that it may be on; empty: all
  std::string apart;                // no two applications of the same group on one device; "": none
  int max_replicas = 1;             // over how many devices its requests may be split
  bool share_model = true;          // one copy of the model with other applications on the device
  bool movable = true;              // may be moved to make room for others
  std::vector<Replica> replicas;    // where it is, when it is on several devices; `device` is empty

  bool operator==(const Application&) const = default;
};

}  // namespace outboard::profile
