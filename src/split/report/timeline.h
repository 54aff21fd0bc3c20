// SPDX-License-Identifier: Apache-2.0
// A simulated schedule as Chrome trace events (chrome://tracing, Perfetto) and as an SVG picture:
// one lane for the computation of every node and one for what its interface sends. Pure.
#pragma once

#include <string>
#include <vector>

#include "split/simulate/simulate.h"

namespace outboard::split {

// The schedule must have kept its spans.
std::string chrome_trace(const Graph& graph, const Cluster& cluster, const Plan& plan,
                         const std::vector<Layout>& layouts, const Schedule& schedule);
std::string timeline_svg(const Graph& graph, const Cluster& cluster, const Plan& plan,
                         const std::vector<Layout>& layouts, const Schedule& schedule,
                         const std::string& title);

}  // namespace outboard::split
