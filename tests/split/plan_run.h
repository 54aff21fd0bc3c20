// SPDX-License-Identifier: Apache-2.0
// Runs a program in one process, node by node and message by message, each band in ONNX Runtime:
// every participant has only the rows that it made or was sent, so a message that the layout
// forgets shows as a missing row and a wrong one as a wrong number.
#pragma once

#include "split/plan/layout.h"
#include "tests/split/runner.h"

namespace outboard::split::testing {

// Rows of a tensor's whole value, in the layout that Tensor documents. `all_rows`: how many the
// whole has (a kSlots tensor's depends on the program).
Value take_rows(const Tensor& t, const Value& whole, Rows rows, int all_rows);

// The values of the graph's outputs on the host. Throws std::runtime_error naming what is missing.
Values run_program(const Graph& graph, const Cluster& cluster, const Program& program,
                   const Values& inputs);

}  // namespace outboard::split::testing
