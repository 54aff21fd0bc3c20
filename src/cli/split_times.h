// SPDX-License-Identifier: Apache-2.0
// What `outboard split run` says of a frame, as JSON: where the time went, a trace, and the cluster
// as it was measured. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "split/exec/split_session.h"

namespace outboard::cli {

// Of a frame, by participant (Part::times).
using FrameTimes = std::vector<std::vector<split::exec::StepTime>>;

// Where a frame's time went on each node.
nlohmann::json break_down(const split::exec::Crew& crew, const split::exec::SplitOptions& options,
                          const FrameTimes& times);
// Chrome trace events; those of the plan as more processes beside the measured ones.
nlohmann::json trace_of(const split::exec::Crew& crew, const split::exec::SplitOptions& options,
                        const FrameTimes& times, const std::vector<split::Span>& planned);
// A cluster file.
nlohmann::json cluster_json(const split::exec::SplitSession& session,
                            const split::exec::SplitOptions& options);

}  // namespace outboard::cli
