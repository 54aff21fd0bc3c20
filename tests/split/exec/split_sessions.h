// SPDX-License-Identifier: Apache-2.0
// Tests of sessions that several nodes compute: nodes in this process, over TCP on loopback, that
// are so slow by their profiles that every one of them is worth while.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "split/exec/split_session.h"
#include "tests/split/exec/part_cluster.h"
#include "tests/split/exec/test_node.h"
#include "tests/split/random_model.h"

namespace outboard::split::testing {

inline Cluster slow_nodes(int n) {
  Cluster c;
  for (int i = 0; i < n; ++i) {
    profile::NodeRows node;
    node.name = "n" + std::to_string(i);
    node.flops_per_s = 1e7;  // so that every node is worth while
    c.nodes.push_back(node);
  }
  c.links.assign(static_cast<std::size_t>(n * n), {1, 1e9});
  return c;
}

class SplitSessions : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
    model_ = make_model();
    path_ = std::filesystem::temp_directory_path() /
            ("outboard-split-" + std::to_string(::getpid()) + ".onnx");
    std::ofstream(path_, std::ios::binary) << model_.bytes;
    whole_ = run_model(model_.bytes, model_.inputs);
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

  virtual RandomModel make_model() { return random_image_model(12); }

  // The host and n - 1 nodes that compute with `engine`.
  exec::SplitOptions options(std::vector<std::unique_ptr<TestNode>>& nodes, int n,
                             engine::Engine& engine = *test_engine()) {
    exec::SplitOptions o;
    o.cluster = slow_nodes(n);
    o.measured_nodes.assign(static_cast<std::size_t>(n), 1);
    o.measured_links.assign(static_cast<std::size_t>(n * n), 1);
    o.always = true;
    o.threads = 1;
    o.request.effort = 0.02;
    o.least_budget_us = 20e6;
    o.retry = std::chrono::milliseconds(20);
    o.members.push_back({"host", "", nullptr, 0});
    for (int i = 1; i < n; ++i) {
      nodes.push_back(std::make_unique<TestNode>(engine, path_.string()));
      o.members.push_back(
          {"n" + std::to_string(i), nodes.back()->address(), nodes.back()->client(), 0});
    }
    return o;
  }

  std::shared_ptr<exec::SplitSession> open(exec::SplitOptions o) {
    auto own = test_engine()->open(path_.string(), {.intra_op_threads = 1});
    return exec::SplitSession::make(*test_engine(), *own, path_.string(), std::move(o));
  }

  // One Run; the largest difference to the whole model's result.
  double run(exec::SplitSession& session) {
    std::vector<engine::InputView> views;
    for (const auto& in : session.info().inputs) {
      const Value& v = model_.inputs.at(in.name);
      views.push_back(
          {engine::ElementType::kFloat, v.shape, std::as_bytes(std::span(v.floats)), {}});
    }
    std::vector<engine::OutputWanted> wanted;
    for (std::uint32_t i = 0; i < session.info().outputs.size(); ++i)
      wanted.push_back({i, nullptr});
    const auto got = session.run(views, wanted, nullptr);
    if (!got) {
      ADD_FAILURE() << got.error().message;
      return 1e30;
    }
    Values values;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const auto& view = (*got)->values()[i];
      Value& v = values[session.info().outputs[i].name];
      v.shape = view.dims;
      v.floats.resize(view.data.size() / sizeof(float));
      std::memcpy(v.floats.data(), view.data.data(), view.data.size());
    }
    return difference(values, whole_);
  }

  RandomModel model_;
  std::filesystem::path path_;
  Values whole_;
};

}  // namespace outboard::split::testing
