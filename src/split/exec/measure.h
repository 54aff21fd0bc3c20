// SPDX-License-Identifier: Apache-2.0
// `outboard profile --rows`: time of every unit of a model against the rows that it computes, and
// what a call of the engine costs. The result goes into a cluster file ("profile": FILE,
// docs/split.md).
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "profile/rows.h"
#include "split/exec/band_opener.h"
#include "split/graph/graph.h"

namespace outboard::split::exec {

// A tensor to try a model with: floats in [0, 1), always the same ones; of other types zeros.
std::vector<std::byte> plausible_bytes(engine::ElementType type,
                                       std::span<const std::int64_t> dims);

// The same for each input of a graph; and such tensors as the engine takes them, which views the
// memory.
std::vector<std::vector<std::byte>> plausible_inputs(const Graph& graph);
std::vector<engine::InputView> input_views(const Graph& graph,
                                           std::span<const std::vector<std::byte>> memory);

double us_since(Nanoseconds start);  // by the monotonic clock

// What a Run takes. On one thread, the calling one, in which the session then computes, it is its
// processor time, so that a busy machine's pauses do not count, and what an engine in another
// process says that it took. Else the time on the clock.
Result<double> time_run(engine::Session& session, std::span<const engine::InputView> inputs,
                        std::span<const engine::OutputWanted> outputs, int threads);

struct RowsOptions {
  double seconds_per_point = 0.05;  // how long one number of rows of one unit is repeated
  int threads = 1;                  // of a session
  int block_channels = 0;           // of rows between bands (blocked.h)
};

// `progress` is told what is being measured. Ends with kCancelled when `stop` is set.
// Units that cannot be divided are measured whole; an engine error names the unit.
Result<profile::NodeRows> measure_rows(engine::Engine& engine, const Graph& graph,
                                       const RowsOptions& options, const std::atomic<bool>& stop,
                                       const std::function<void(const std::string&)>& progress);

// The same for plans of sessions, briefly, and from the store where that is there: what was found
// on this processor within the last day, for this model. `bands`: threads, blocks, store and model.
Result<profile::NodeRows> known_rows(engine::Engine& engine, const Graph& graph,
                                     const BandOptions& bands, const std::atomic<bool>& stop);

}  // namespace outboard::split::exec
