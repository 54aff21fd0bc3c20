// SPDX-License-Identifier: Apache-2.0
// All participants of a program in one process, each a Part of its own, linked by stream pairs or
// by TCP over loopback.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "split/exec/part.h"
#include "tests/split/runner.h"

namespace outboard::split::testing {

enum class Transport { kPair, kTcp };

// May put something between an end of a link and its participant; given both participants.
using Wrap =
    std::function<std::unique_ptr<wire::Stream>(std::unique_ptr<wire::Stream>, int from, int to)>;

struct PartCluster {
  std::vector<std::shared_ptr<exec::Part>> parts;
  int host = 0;
  ~PartCluster();

  // One image; the outputs by name.
  Result<Values> run(const Values& inputs, Deadline deadline = Deadline::never());
};

// One engine for all tests of the process, on one thread; null without ONNX Runtime.
engine::Engine* test_engine();

// `engines`: by participant, where they are not test_engine().
Result<std::unique_ptr<PartCluster>> make_cluster(std::shared_ptr<const Graph> graph,
                                                  const Program& program, int host,
                                                  Transport transport,
                                                  const exec::PartOptions& options = {},
                                                  const Wrap& wrap = {},
                                                  const std::vector<engine::Engine*>& engines = {});

// In the order of the graph's inputs; they view the values.
std::vector<engine::InputView> views_of(const Graph& graph, const Values& inputs);

std::shared_ptr<const Graph> graph_of_bytes(const std::string& bytes);
// The program with participants 0 .. n-1, and where the host is among them.
std::pair<Program, int> numbered(const Program& program, const Cluster& cluster);

// The largest difference over all outputs, relative to the largest value of each.
double difference(const Values& got, const Values& want);

}  // namespace outboard::split::testing
