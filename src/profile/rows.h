// SPDX-License-Identifier: Apache-2.0
// What a node needs to compute some rows of a block, and what a call costs it. Measured curves by
// the name of a unit (src/split/graph) where there are some, else a roofline: the slower of
// arithmetic at flops_per_s and memory traffic at memory_bytes_per_s. Plain values; times in
// microseconds.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace outboard::profile {

// Time against rows: measured points, straight lines between them and on from the last two. Below
// the first point the time falls to that of no rows only as far as the first line does.
struct RowCurve {
  std::vector<double> rows;     // ascending, > 0
  std::vector<double> time_us;  // as many

  double at(double n) const;
  bool operator==(const RowCurve&) const = default;
};

struct NodeRows {
  std::string name;
  double flops_per_s = 0;         // > 0
  double memory_bytes_per_s = 0;  // 0: never the limit
  double call_us = 0;             // of every call of the engine, whatever it computes
  double memory_bytes = 0;        // for weights and activations; 0: no limit
  double busy_us = 0;             // work that is queued on it already
  std::map<std::string, RowCurve> units;

  bool operator==(const NodeRows&) const = default;
};

// The roofline.
double work_us(const NodeRows& node, double flops, double bytes);

// The curve without the cost of the call that is in every measured point.
RowCurve without_call(RowCurve curve, double call_us);

}  // namespace outboard::profile
