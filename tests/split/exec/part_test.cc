// SPDX-License-Identifier: Apache-2.0
// Whole programs over parts that know nothing of each other but what messages carry: random
// networks, random cuts, all published schemes, several frames in a row and at once.
#include "split/exec/part.h"

#include <gtest/gtest.h>

#include "split/plan/search.h"
#include "tests/split/exec/part_cluster.h"
#include "tests/split/plan_run.h"
#include "tests/split/random_model.h"
#include "tests/split/random_program.h"

namespace outboard::split {
namespace {

using namespace testing;

void expect_whole_result(const RandomModel& model, const std::shared_ptr<const Graph>& graph,
                         const Cluster& nodes, const Program& program, Transport transport,
                         const exec::PartOptions& options = {}) {
  const Values whole = run_model(model.bytes, model.inputs);
  const auto [p, host] = numbered(program, nodes);
  auto cluster = make_cluster(graph, p, host, transport, options);
  ASSERT_TRUE(cluster) << cluster.error().message;
  for (int frame = 0; frame < 3; ++frame) {
    const auto got = (*cluster)->run(model.inputs);
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_LT(difference(*got, whole), 5e-4) << "frame " << frame;
  }
}

class Parts : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  }
};

TEST_P(Parts, OfImageNetworksGiveTheWholeResult) {
  const auto seed = static_cast<std::uint64_t>(GetParam());
  const RandomModel model = random_image_model(seed);
  const auto graph = graph_of_bytes(model.bytes);
  std::mt19937_64 random(seed + 1);
  const Cluster nodes = equal_nodes(2 + static_cast<int>(random() % 3));
  expect_whole_result(model, graph, nodes, random_program(*graph, nodes, random), Transport::kPair,
                      {.contexts = 1 + static_cast<int>(random() % 2)});
  expect_whole_result(model, graph, nodes, random_program(*graph, nodes, random), Transport::kTcp);
  constexpr Scheme kSchemes[] = {Scheme::kHalp, Scheme::kModnn, Scheme::kDpfp, Scheme::kTiles};
  expect_whole_result(model, graph, nodes, baseline(kSchemes[random() % 4], *graph, nodes),
                      Transport::kPair);
}

TEST_P(Parts, OfTokenNetworksGiveTheWholeResult) {
  const auto seed = static_cast<std::uint64_t>(GetParam());
  const RandomModel model = random_token_model(seed);
  const auto graph = graph_of_bytes(model.bytes);
  std::mt19937_64 random(seed + 2);
  const Cluster nodes = equal_nodes(2 + static_cast<int>(random() % 3));
  expect_whole_result(model, graph, nodes, random_program(*graph, nodes, random), Transport::kPair);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Parts, ::testing::Range(1, 61));

TEST(PartFrames, SeveralAtOnceDoNotMix) {
  if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  const RandomModel model = random_image_model(7);
  const auto graph = graph_of_bytes(model.bytes);
  const Cluster nodes = equal_nodes(3);
  PlanRequest quick;
  quick.effort = 0.02;
  const auto [program, host] =
      numbered(program_of(*graph, nodes, plan(*graph, nodes, quick).choice), nodes);
  auto cluster = make_cluster(graph, program, host, Transport::kPair, {.contexts = 4});
  ASSERT_TRUE(cluster) << cluster.error().message;
  exec::Part& part = *(*cluster)->parts[static_cast<std::size_t>(host)];
  std::vector<Values> inputs;
  std::vector<std::uint64_t> frames;
  for (int i = 0; i < 4; ++i) {
    Values scaled = model.inputs;
    std::vector<engine::InputView> views;
    for (auto& [name, value] : scaled)
      for (auto& x : value.floats) x *= static_cast<float>(i + 1);
    inputs.push_back(std::move(scaled));
    for (int t : graph->inputs) {
      const Value& v = inputs.back().at(graph->tensors[static_cast<std::size_t>(t)].name);
      views.push_back(
          {engine::ElementType::kFloat, v.shape, std::as_bytes(std::span(v.floats)), {}});
    }
    const auto frame = part.begin(views);
    ASSERT_TRUE(frame) << frame.error().message;
    frames.push_back(*frame);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    const auto outputs = part.wait(frames[i], Deadline::never());
    ASSERT_TRUE(outputs) << outputs.error().message;
    const Values whole = run_model(model.bytes, inputs[i]);
    const Tensor& t = graph->tensors[static_cast<std::size_t>(graph->outputs[0])];
    Values got{{t.name, {t.shape, std::vector<float>((*outputs)[0].size() / 4), {}}}};
    std::memcpy(got[t.name].floats.data(), (*outputs)[0].data(), (*outputs)[0].size());
    EXPECT_LT(difference(got, {{t.name, whole.at(t.name)}}), 5e-4) << "frame " << i;
    part.release(frames[i]);
  }
}

}  // namespace
}  // namespace outboard::split
