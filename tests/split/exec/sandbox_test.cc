// SPDX-License-Identifier: Apache-2.0
// Bands that are computed in worker processes, in their sandbox, by the real ONNX Runtime: this
// program, called as `worker`, is one.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <map>
#include <string_view>

#include "base/log.h"
#include "engine/forwarding.h"
#include "engine/onnxruntime/engine.h"
#include "serve/worker/inside.h"
#include "serve/worker/workers.h"
#include "split/exec/blocked.h"
#include "tests/split/exec/split_sessions.h"
#include "tests/split/random_program.h"

namespace outboard::split {
namespace {

using namespace testing;

Result<std::shared_ptr<serve::Workers>> start_workers() {
  serve::Workers::Options options;
  options.command = {"/proc/self/exe", "worker"};
  options.memory_bytes = std::uint64_t{2} << 30;
  return serve::Workers::start(std::move(options));
}

std::atomic<int> said_standard{0};

// Convolutions whose channels fill whole blocks.
RandomModel wide_model(int channels) {
  ModelWriter m(5, 17);
  std::string x = m.input("image", {1, 3, 40, 20});
  for (int i = 0; i < 5; ++i) {
    x = m.node("Conv", {x, m.weights({channels, i == 0 ? 3 : channels, 3, 3})});
    x = m.node("Relu", {x});
  }
  m.output(m.node("Conv", {x, m.weights({4, channels, 3, 3})}));
  return {m.bytes(), m.random_inputs(), "six convolutions"};
}

class Sandboxed : public SplitSessions {
 protected:
  void SetUp() override {
    if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
    channels_ = exec::block_channels(*test_engine());
    if (channels_ == 0) GTEST_SKIP() << "this processor's kernels have no layout of their own";
    auto workers = start_workers();
    ASSERT_TRUE(workers) << workers.error().message;
    engine_ = (*workers)->engine_for({"peers", 1, {}});
    SplitSessions::SetUp();
    said_standard = 0;
    set_log_level(LogLevel::kInfo);
    set_log_sink([](LogLevel, std::string_view line) {
      if (line.starts_with("split in the standard layout")) ++said_standard;
    });
  }
  void TearDown() override {
    set_log_sink(nullptr);
    if (!path_.empty()) SplitSessions::TearDown();
  }
  RandomModel make_model() override { return wide_model(channels_); }

  int channels_ = 0;
  std::unique_ptr<engine::Engine> engine_;
};

std::map<std::string, int> operators(const Result<std::string>& model) {
  std::map<std::string, int> count;
  onnx::ModelProto parsed;
  EXPECT_TRUE(model && parsed.ParseFromString(*model));
  for (const auto& node : parsed.graph().node()) ++count[node.domain() + ":" + node.op_type()];
  return count;
}

TEST_F(Sandboxed, ShowsTheModelThatItComputes) {
  auto* const inside = dynamic_cast<engine::ModelOptimiser*>(engine_.get());
  auto* const outside = dynamic_cast<engine::ModelOptimiser*>(test_engine());
  ASSERT_NE(inside, nullptr);
  ASSERT_NE(outside, nullptr);
  const auto bytes = std::as_bytes(std::span(model_.bytes));
  const auto shown = operators(inside->optimise(bytes, {.intra_op_threads = 1}));
  EXPECT_EQ(shown, operators(outside->optimise(bytes, {.intra_op_threads = 1})));
  EXPECT_GE(shown.at("com.microsoft.nchwc:Conv"), 5);
  EXPECT_EQ(exec::block_channels(*engine_), channels_);
}

TEST_F(Sandboxed, ShowsNoMoreThanAnErrorOfWhatIsNoModel) {
  auto* const inside = dynamic_cast<engine::ModelOptimiser*>(engine_.get());
  ASSERT_NE(inside, nullptr);
  const std::string nonsense = "this is no model";
  const auto shown = inside->optimise(std::as_bytes(std::span(nonsense)), {});
  ASSERT_FALSE(shown);
  EXPECT_EQ(shown.error().kind, ErrorKind::kEngine) << shown.error().message;
  // The worker goes on.
  EXPECT_TRUE(inside->optimise(std::as_bytes(std::span(model_.bytes)), {}));
}

TEST_F(Sandboxed, BandsInBlocksOfChannelsGiveTheWholeResult) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
    const RandomModel model = random_image_model(seed, channels_);
    const auto graph = graph_of_bytes(model.bytes);
    std::mt19937_64 random(seed + 3);
    const Cluster nodes = equal_nodes(2);
    const auto [program, host] = numbered(random_program(*graph, nodes, random), nodes);
    std::vector<engine::Engine*> engines(static_cast<std::size_t>(program.size()), engine_.get());
    engines.front() = test_engine();
    auto cluster = make_cluster(graph, program, host, Transport::kPair,
                                {.block_channels = channels_}, {}, engines);
    ASSERT_TRUE(cluster) << model.description << ": " << cluster.error().message;
    const Values whole = run_model(model.bytes, model.inputs);
    for (int frame = 0; frame < 2; ++frame) {
      const auto got = (*cluster)->run(model.inputs);
      ASSERT_TRUE(got) << got.error().message;
      EXPECT_LT(difference(*got, whole), 5e-4) << model.description;
    }
  }
}

TEST_F(Sandboxed, ANodeKeepsTheBlockedLayoutOfAPlan) {
  std::vector<std::unique_ptr<TestNode>> nodes;
  const auto session = open(options(nodes, 2, *engine_));
  ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
  EXPECT_EQ(session->status().state, "split over 2 nodes");
  for (int i = 0; i < 3; ++i) EXPECT_LT(run(*session), 5e-4);
  EXPECT_EQ(session->status().split_runs, 3u);
  EXPECT_EQ(said_standard, 0);
}

// As one of a library that does not write its model.
class Mute final : public engine::ForwardingEngine {
 public:
  using ForwardingEngine::ForwardingEngine;
  Result<std::string> optimise(std::span<const std::byte> /*model*/,
                               const engine::OpenOptions& /*options*/) override {
    return error(ErrorKind::kUnimplemented, "this engine shows nothing");
  }
};

TEST_F(Sandboxed, ANodeThatShowsNothingMakesAPlanOneInTheStandardLayout) {
  Mute mute(std::move(engine_));
  EXPECT_EQ(exec::block_channels(mute), 0);
  std::vector<std::unique_ptr<TestNode>> nodes;
  const auto session = open(options(nodes, 2, mute));
  ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
  EXPECT_EQ(session->status().state, "split over 2 nodes");
  EXPECT_EQ(said_standard, 1);
  EXPECT_LT(run(*session), 5e-4);
  EXPECT_EQ(session->status().split_runs, 1u);
}

// As what a worker shows that was taken over.
class Lying final : public engine::ForwardingEngine {
 public:
  using ForwardingEngine::ForwardingEngine;
  Result<std::string> optimise(std::span<const std::byte> model,
                               const engine::OpenOptions& options) override {
    OB_TRY(std::string shown, ForwardingEngine::optimise(model, options));
    return times_++ == 0 ? shown : shown.substr(0, shown.size() / 2);
  }

 private:
  std::atomic<int> times_{0};  // the first is the question whether it shows anything
};

TEST_F(Sandboxed, ANodeWhoseWorkerLiesIsLeftOutAndNothingElseHappens) {
  Lying lying(std::move(engine_));
  std::vector<std::unique_ptr<TestNode>> nodes;
  const auto session = open(options(nodes, 2, lying));
  ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
  EXPECT_NE(session->status().state.find("is no model"), std::string::npos)
      << session->status().state;
  EXPECT_LT(run(*session), 5e-4);
  EXPECT_EQ(session->status().own_runs, 1u);
}

}  // namespace
}  // namespace outboard::split

int main(int argc, char** argv) {
  using namespace outboard;
  if (argc < 2 || std::string_view(argv[1]) != "worker") {
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  }
  const auto library = engine::find_onnxruntime_library();
  const auto worked = serve::run_worker(
      {.library = library.value_or(""), .memory_bytes = std::uint64_t{2} << 30}, [&] {
        return engine::load_onnxruntime(
            {.library = library.value_or(""), .shared_threads = true, .threads = 1});
      });
  std::fprintf(stderr, "%s\n", worked.error().message.c_str());
  return 1;
}
