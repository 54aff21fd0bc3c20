// SPDX-License-Identifier: Apache-2.0
// What `outboard split` prints: the graph with its regions, and why a plan is what it is. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "split/plan/search.h"

namespace outboard::split {

// Consecutive units that can be divided, and what ends them.
struct Region {
  int first_unit = 0;
  int end_unit = 0;
  double flops = 0;
  std::string ended_by;  // a sentence; empty at the end of the model
};
std::vector<Region> regions(const Graph& graph);

// Bytes that one cut in the middle of a unit's input moves, both ways.
double halo_bytes(const Graph& graph, int unit);

// A table of units and a list of regions, or the same as JSON.
std::string inspect_text(const Graph& graph);
nlohmann::json inspect_json(const Graph& graph);

// The plan, its blocks, what bounds it, what it would cost without each of its means, and what the
// next best plans cost.
std::string explain_text(const Graph& graph, const Cluster& cluster, const PlanRequest& request,
                         const PlanResult& result);

nlohmann::json result_json(const Cluster& cluster, const std::string& scheme,
                           const PlanResult& result);

}  // namespace outboard::split
