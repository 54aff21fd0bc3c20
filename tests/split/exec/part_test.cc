// SPDX-License-Identifier: Apache-2.0
// Whole programs over parts that know nothing of each other but what messages carry: random
// networks, random cuts, all published schemes, several frames in a row and at once.
#include "split/exec/part.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "split/exec/blocked.h"
#include "split/exec/node.h"
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

TEST_P(Parts, InBlocksOfChannelsGiveTheWholeResult) {
  const int channels = exec::block_channels(*test_engine());
  if (channels == 0) GTEST_SKIP() << "this processor's kernels have no layout of their own";
  const auto seed = static_cast<std::uint64_t>(GetParam());
  const RandomModel model = random_image_model(seed, channels);
  const auto graph = graph_of_bytes(model.bytes);
  std::mt19937_64 random(seed + 3);
  const Cluster nodes = equal_nodes(2 + static_cast<int>(random() % 2));
  expect_whole_result(model, graph, nodes, random_program(*graph, nodes, random), Transport::kPair,
                      {.block_channels = channels});
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
    for (auto& [name, value] : scaled)
      for (auto& x : value.floats) x *= static_cast<float>(i + 1);
    inputs.push_back(std::move(scaled));
    const auto frame = part.begin(views_of(*graph, inputs.back()));
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

// The first frame by a thread that is nice, the others by the one that is not.
TEST(PartFrames, TheFirstMayBeComputedAside) {
  if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  const RandomModel model = random_image_model(7);
  const auto graph = graph_of_bytes(model.bytes);
  const Cluster nodes = equal_nodes(2, 1e7);
  const auto [program, host] = numbered(baseline(Scheme::kDpfp, *graph, nodes), nodes);
  auto cluster = make_cluster(graph, program, host, Transport::kPair, {.first_frame_niceness = 19});
  ASSERT_TRUE(cluster) << cluster.error().message;
  const Values whole = run_model(model.bytes, model.inputs);
  for (int i = 0; i < 4; ++i) {
    const auto got = (*cluster)->run(model.inputs, Deadline::in(std::chrono::seconds(60)));
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_LT(difference(*got, whole), 5e-4) << "frame " << i;
  }
}

std::shared_ptr<wire::Connection> some_connection() {
  return std::make_shared<wire::Connection>(wire::make_stream_pair().first);
}

TEST(PartLinks, OfTwoToOneNeighbourTheSecondIsRefused) {
  if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  const RandomModel model = random_image_model(12);
  const auto graph = graph_of_bytes(model.bytes);
  const Cluster nodes = equal_nodes(2, 1e7);
  const auto [program, host] = numbered(baseline(Scheme::kDpfp, *graph, nodes), nodes);
  ASSERT_EQ(program.size(), 2);
  auto cluster = make_cluster(graph, program, host, Transport::kPair);
  ASSERT_TRUE(cluster) << cluster.error().message;
  for (int i = 0; i < 2; ++i) {
    exec::Part& part = *(*cluster)->parts[static_cast<std::size_t>(i)];
    const auto attached = part.attach(1 - i, some_connection());
    ASSERT_FALSE(attached);
    EXPECT_EQ(attached.error().kind, ErrorKind::kInvalid);
    const auto other = some_connection();
    const auto served = part.serve(1 - i, *other, []() -> Result<void> {
      ADD_FAILURE() << "it was admitted";
      return {};
    });
    ASSERT_FALSE(served);
    EXPECT_EQ(served.error().kind, ErrorKind::kInvalid);
  }
  const auto got = (*cluster)->run(model.inputs);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_LT(difference(*got, run_model(model.bytes, model.inputs)), 5e-4);
}

// A Node, and assignments of one plan's second participant after another.
class Nodes : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
    const RandomModel model = random_image_model(12);
    path_ = std::filesystem::temp_directory_path() /
            ("outboard-node-" + std::to_string(::getpid()) + ".onnx");
    std::ofstream(path_, std::ios::binary) << model.bytes;
    const auto graph = exec::open_graph(*test_engine(), path_.string(), {});
    ASSERT_TRUE(graph) << graph.error().message;
    const Cluster nodes = equal_nodes(2, 1e7);
    std::tie(a_.program, a_.host) = numbered(baseline(Scheme::kDpfp, **graph, nodes), nodes);
    ASSERT_EQ(a_.program.size(), 2);
    a_.participant = 1 - a_.host;
    a_.engine = exec::name_and_version(*test_engine());
    a_.members = {"", ""};
    a_.layout = exec::fingerprint(**graph, exec::layout_of(**graph, a_.program, a_.host));
    for (int t : (*graph)->inputs) {
      const Tensor& tensor = (*graph)->tensors[static_cast<std::size_t>(t)];
      a_.input_shapes[tensor.name] = tensor.shape;
    }
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

  Result<std::string> assign(exec::Node& node, std::uint64_t plan) {
    a_.id = {plan, 0};
    const std::string text = exec::encode(a_);
    return node.assign(std::as_bytes(std::span(text)),
                       [this](const Sha256&) -> Result<exec::HeldModel> {
                         return exec::HeldModel{path_.string(), nullptr};
                       });
  }

  std::filesystem::path path_;
  exec::Assignment a_;
};

TEST_F(Nodes, AdmitTheHostOnce) {
  exec::Node node(*test_engine(), {.connect = {}});
  const auto built = assign(node, 1);
  ASSERT_TRUE(built) << built.error().message;
  const std::string text = exec::encode(exec::Join{a_.id, a_.host});
  const auto payload = std::as_bytes(std::span(text));
  const auto first = some_connection(), second = some_connection();
  bool refused = false;
  // The second comes while the first is being answered.
  (void)node.join(payload, *first, [&]() -> Result<void> {
    const auto joined = node.join(payload, *second, [&]() -> Result<void> {
      ADD_FAILURE() << "the second was admitted";
      return error(ErrorKind::kInternal, "the test has failed");
    });
    refused = !joined && joined.error().kind == ErrorKind::kInvalid;
    EXPECT_EQ(node.parts(), 1u);
    return {};
  });
  EXPECT_TRUE(refused);
  EXPECT_EQ(node.parts(), 0u);
}

TEST_F(Nodes, KeepNoPartThatNobodyJoins) {
  exec::Node patient(*test_engine(), {.connect = {}, .max_parts = 1});
  const auto built = assign(patient, 1);
  ASSERT_TRUE(built) << built.error().message;
  EXPECT_EQ(assign(patient, 2).error().kind, ErrorKind::kOverloaded);
  patient.abandon({1, 0});
  EXPECT_EQ(patient.parts(), 0u);
  EXPECT_TRUE(assign(patient, 2));

  exec::Node hasty(*test_engine(),
                   {.connect = {}, .max_parts = 1, .time_to_join = std::chrono::milliseconds(0)});
  for (std::uint64_t plan = 1; plan <= 3; ++plan) EXPECT_TRUE(assign(hasty, plan));
  EXPECT_EQ(hasty.parts(), 1u);
}

TEST_F(Nodes, BuildOnePartOfAPlan) {
  exec::Node node(*test_engine(), {.connect = {}});
  ASSERT_TRUE(assign(node, 1));
  const auto again = assign(node, 1);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(node.parts(), 1u);
}

}  // namespace
}  // namespace outboard::split
