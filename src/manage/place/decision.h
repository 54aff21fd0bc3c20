// SPDX-License-Identifier: Apache-2.0
// What a placement decided, in numbers; explain.h puts it into sentences.
//
// Units: milliseconds in `_ms`. Plain values; names, not numbers of a fleet, so that a decision
// outlives it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "manage/place/check.h"
#include "profile/device.h"

namespace outboard::manage {

// How far a part is from its limit, with everything of the decision in place.
struct Slack {
  std::string application;
  std::string device;
  double share = 1;
  double percentile = 95;
  double predicted_ms = 0;  // at the percentile
  double error_ms = 0;      // what the prediction may be off by
  double limit_ms = 0;      // 0: none, and slack_ms is infinite
  double slack_ms = 0;      // limit - predicted
  double late = 0;          // P(response > limit)
};

struct Move {
  std::string application;
  std::string from;
  std::string to;
  double share = 1;
  bool operator==(const Move&) const = default;
};

// How a device refused the newcomer.
struct Obstacle {
  std::string device;
  Breach breach = Breach::kNone;
  std::string application;  // whose limit breaks: kLatency, kApart, kReserve
  std::string lost;         // kReserve: the device whose loss breaks it; else empty
  double by = 0;            // as Finding::by
  double predicted_ms = 0;  // kLatency
  double error_ms = 0;
  double percentile = 0;
  double limit_ms = 0;
  double allowed_ms = 0;     // the limit less its margin
  Term term = Term::kQueue;  // kLatency: which part of the mean the newcomer makes grow most
  double term_ms = 0;        // by how much
  std::string detail;
};

// What would do. Filled for a refusal when it was asked for.
struct Advice {
  double highest_rate_per_s = 0;  // that fits somewhere as things are; 0: none
  std::string highest_rate_device;
  double loosest_limit_ms = 0;  // the smallest limit that would be admitted; 0: none would help
  std::string loosest_limit_device;
  std::vector<std::string> idle_kinds;  // one more idle device of such a kind would do
  std::vector<Move> moves;              // these would make room for it, on `moves_device`
  std::string moves_device;
};

struct Decision {
  std::string application;
  bool placed = false;
  std::vector<profile::Replica> where;
  std::vector<profile::Device> settings;  // devices whose batching is to be changed, as it will be
  std::vector<Move> moves;                // to be made first, in this order; each keeps all limits
  std::vector<Slack> slacks;              // of every part on the devices that are touched
  std::vector<Obstacle> obstacles;        // refused: nearest first, each device at most once
  std::optional<Advice> advice;

  std::size_t screened = 0;  // devices that bounds were computed for
  std::size_t judged = 0;    // whole answers of the latency model
};

}  // namespace outboard::manage
