// SPDX-License-Identifier: Apache-2.0
// A node is lost at every exchange of a plan: the frame fails with an error, never with a wrong
// result and never for ever; and a split session finishes that frame on its own node, goes on, and
// takes the node back.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/forwarding.h"
#include "engine/onnxruntime/engine.h"
#include "serve/server.h"
#include "split/plan/search.h"
#include "tests/split/exec/part_cluster.h"
#include "tests/split/exec/split_sessions.h"

namespace outboard::split {
namespace {

using namespace testing;

TEST(PartFaults, EveryExchangeMayBeTheLast) {
  if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  const RandomModel model = random_image_model(12);
  const auto graph = graph_of_bytes(model.bytes);
  const Cluster nodes = slow_nodes(3);
  PlanRequest quick;
  quick.effort = 0.02;
  const auto choice = plan(*graph, nodes, quick).choice;
  const auto [program, host] = numbered(program_of(*graph, nodes, choice), nodes);
  const Values whole = run_model(model.bytes, model.inputs);
  const int messages = static_cast<int>(exec::layout_of(*graph, program, host).messages.size());
  ASSERT_GT(messages, 3);
  int failed = 0;
  for (int n = 1; n <= messages + 3; ++n) {
    const auto faults = std::make_shared<Faults>();
    faults->arm(Fault::kLinkEnds, n);  // counted over all links
    auto cluster = make_cluster(graph, program, host, Transport::kPair, {},
                                [&](std::unique_ptr<wire::Stream> stream, int, int) {
                                  return faults->wrap(std::move(stream));
                                });
    ASSERT_TRUE(cluster) << cluster.error().message;
    const auto got = (*cluster)->run(model.inputs, Deadline::in(std::chrono::seconds(60)));
    if (got) {
      EXPECT_LT(difference(*got, whole), 5e-4) << "message " << n;
    } else {
      ++failed;
      EXPECT_NE(got.error().kind, ErrorKind::kTimeout) << "message " << n << " left it hanging";
    }
  }
  EXPECT_GE(failed, messages - 1);
}

// A frame in which a node stands still is not waited for until its deadline; when the node goes on,
// the frame's end is dropped, and the plan goes on.
TEST(PartFaults, AFrameThatStandsStillIsAbandonedAndTheNextOnesAreRight) {
  if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  const RandomModel model = random_image_model(12);
  const auto graph = graph_of_bytes(model.bytes);
  const Cluster nodes = slow_nodes(2);
  const auto [program, host] = numbered(baseline(Scheme::kDpfp, *graph, nodes), nodes);
  const auto faults = std::make_shared<Faults>();
  auto cluster =
      make_cluster(graph, program, host, Transport::kPair, {},
                   [&](std::unique_ptr<wire::Stream> stream, int from, int) {
                     return from == host ? std::move(stream) : faults->wrap(std::move(stream));
                   });
  ASSERT_TRUE(cluster) << cluster.error().message;
  ASSERT_TRUE((*cluster)->run(model.inputs, Deadline::in(std::chrono::seconds(60))));
  faults->arm(Fault::kStopped, 1);
  exec::Part& part = *(*cluster)->parts[static_cast<std::size_t>(host)];
  const auto frame = part.begin(views_of(*graph, model.inputs));
  ASSERT_TRUE(frame) << frame.error().message;
  const Nanoseconds begin = Clock::monotonic().now();
  const auto got = part.wait(*frame, Deadline::in(std::chrono::minutes(10)),
                             {Deadline{begin}, std::chrono::milliseconds(50)});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::kTimeout);
  EXPECT_LT(Clock::monotonic().now() - begin, std::chrono::minutes(5));
  EXPECT_GE(part.idle_for(), std::chrono::milliseconds(50));
  part.abandon(*frame);
  EXPECT_GT(part.abandoned_for(), Nanoseconds{});
  faults->heal();
  const Values whole = run_model(model.bytes, model.inputs);
  for (int i = 0; i < 2; ++i) {
    const auto next = (*cluster)->run(model.inputs, Deadline::in(std::chrono::seconds(60)));
    ASSERT_TRUE(next) << next.error().message;
    EXPECT_LT(difference(*next, whole), 5e-4);
    EXPECT_EQ(part.abandoned_for(), Nanoseconds{});
  }
}

// Nor is one whose rows move so slowly that it cannot end by then.
TEST(PartFaults, AFrameWhoseRowsTrickleIsGivenUpBeforeItsDeadline) {
  if (!test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
  const RandomModel model = random_image_model(12, 16);
  const auto graph = graph_of_bytes(model.bytes);
  const Cluster nodes = slow_nodes(2);
  const auto [program, host] = numbered(baseline(Scheme::kDpfp, *graph, nodes), nodes);
  const auto faults = std::make_shared<Faults>();
  auto cluster =
      make_cluster(graph, program, host, Transport::kPair, {},
                   [&](std::unique_ptr<wire::Stream> stream, int from, int) {
                     return from == host ? std::move(stream) : faults->wrap(std::move(stream));
                   });
  ASSERT_TRUE(cluster) << cluster.error().message;
  ASSERT_TRUE((*cluster)->run(model.inputs, Deadline::in(std::chrono::seconds(60))));
  exec::Part& part = *(*cluster)->parts[static_cast<std::size_t>(host)];
  double rows_bytes = 0;
  for (const auto& m : part.layout().messages)
    if (m.to == host) rows_bytes += m.size_bytes;
  ASSERT_GT(rows_bytes, 1000);
  faults->arm(Fault::kTrickles, 1);
  const auto views = views_of(*graph, model.inputs);
  const auto frame = part.begin(views);
  ASSERT_TRUE(frame) << frame.error().message;
  const Nanoseconds a_third(static_cast<std::int64_t>(rows_bytes / 3 * 1e6));
  const Deadline deadline = Deadline::in(a_third);
  const auto got = part.wait(*frame, deadline, {deadline, a_third});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::kTimeout);
  EXPECT_NE(got.error().message.find("rows of the frame"), std::string::npos)
      << got.error().message;
  part.abandon(*frame);
  // No other can begin in its place, and nobody waits for that for ever.
  const auto next = part.begin(views, Deadline::in(std::chrono::milliseconds(1)));
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().kind, ErrorKind::kTimeout);
  faults->heal();
  const auto after = (*cluster)->run(model.inputs, Deadline::in(std::chrono::seconds(60)));
  ASSERT_TRUE(after) << after.error().message;
  EXPECT_LT(difference(*after, run_model(model.bytes, model.inputs)), 5e-4);
}

// A program whose Runs go on: they are the frames of the plan's trial, and the reference is one of
// them.
TEST_F(SplitSessions, GetAPlanWhileTheirProgramGoesOn) {
  std::vector<std::unique_ptr<TestNode>> nodes;
  auto o = options(nodes, 2);
  o.always = false;
  o.least_gain = 0;
  o.plan_after_runs = 3;
  o.corrections = 1;
  const auto session = open(std::move(o));
  const Deadline limit = Deadline::in(std::chrono::seconds(200));
  while (session->status().split_runs < 3 && Clock::monotonic().now() < limit.at)
    EXPECT_LT(run(*session), 5e-4);
  const auto status = session->status();
  EXPECT_GE(status.split_runs, 3u) << status.state;
  EXPECT_LE(status.difference, exec::kRounding);
  EXPECT_GE(status.own_runs, 3u);
  EXPECT_LT(run(*session), 5e-4);
}

TEST_F(SplitSessions, ComputeTogetherOverTcpAndGiveTheWholeResult) {
  std::vector<std::unique_ptr<TestNode>> nodes;
  const auto session = open(options(nodes, 3));
  ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
  EXPECT_EQ(session->status().state, "split over 3 nodes");
  for (int i = 0; i < 5; ++i) EXPECT_LT(run(*session), 5e-4);
  EXPECT_EQ(session->status().split_runs, 5u);
  EXPECT_EQ(session->status().own_runs, 0u);
}

TEST_F(SplitSessions, FinishTheFrameWhenANodeDiesAndTakeItBack) {
  std::vector<std::unique_ptr<TestNode>> nodes;
  const auto session = open(options(nodes, 3));
  ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
  EXPECT_LT(run(*session), 5e-4);
  const auto before = session->status().plans;
  nodes[0]->stop();
  // No Run may fail while the plan is given up and a new one is made from the survivors.
  const Deadline limit = Deadline::in(std::chrono::seconds(60));
  while (session->status().plans == before && Clock::monotonic().now() < limit.at)
    EXPECT_LT(run(*session), 5e-4);
  EXPECT_EQ(session->status().state, "split over 2 nodes");
  EXPECT_LT(run(*session), 5e-4);
  nodes[0]->start();
  while (session->status().state != "split over 3 nodes" && Clock::monotonic().now() < limit.at)
    EXPECT_LT(run(*session), 5e-4);
  EXPECT_EQ(session->status().state, "split over 3 nodes");
  EXPECT_GE(session->status().rescued_runs, 1u);
}

// Killed, stopped and cut off before each message of a frame: no Run fails, none is wrong, the
// frame is finished here, a plan without the node is made, and the node is taken back.
class LostNode : public SplitSessions, public ::testing::WithParamInterface<Fault> {};

TEST_P(LostNode, AtEveryExchangeFailsNoRunAndIsTakenBack) {
  std::vector<std::unique_ptr<TestNode>> nodes;
  auto o = options(nodes, 3);
  o.least_budget_us = 200e3;
  const auto session = open(std::move(o));
  ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
  const Deadline limit = Deadline::in(std::chrono::seconds(200));
  const auto until = [&](auto done) {
    while (!done() && Clock::monotonic().now() < limit.at) EXPECT_LT(run(*session), 5e-4);
    EXPECT_TRUE(done()) << session->status().state;
  };
  const auto whole = [&] { return session->status().state == "split over 3 nodes"; };
  Faults& faults = nodes[1]->faults();
  int exchanges = 0;
  until(whole);
  for (int n = 1; n <= 1 || n <= exchanges; ++n) {
    until(whole);
    // How many messages a node sends in a frame depends on the plan that was measured: one at
    // least (its band of the result). A Run that the host did alone does not count.
    for (auto split = session->status().split_runs; exchanges == 0;) {
      const int before = faults.writes();
      until([&] { return session->status().split_runs > split; });
      split = session->status().split_runs;
      exchanges = faults.writes() - before;
      ASSERT_FALSE(limit.at < Clock::monotonic().now()) << "no frame in which the node took part";
    }
    const auto rescued = session->status().rescued_runs;
    faults.arm(GetParam(), n);
    until([&] { return session->status().rescued_runs > rescued; });
    if (n == 1 || GetParam() == Fault::kKilled)
      until([&] { return session->status().state == "split over 2 nodes"; });
    faults.heal();
  }
  until(whole);
}

std::string fault_name(const ::testing::TestParamInfo<Fault>& info) {
  return info.param == Fault::kKilled    ? "Killed"
         : info.param == Fault::kStopped ? "Stopped"
                                         : "Cut";
}
INSTANTIATE_TEST_SUITE_P(Faults, LostNode,
                         ::testing::Values(Fault::kKilled, Fault::kStopped, Fault::kCut),
                         fault_name);

// A session that for a while calls its last output by another name than the model's file.
class Misnamed final : public engine::Session {
 public:
  explicit Misnamed(std::shared_ptr<engine::Session> session)
      : session_(std::move(session)), wrong_(session_->info()) {
    wrong_.outputs.back().name += "?";
  }
  const engine::ModelInfo& info() const override {
    return times_++ < 40 ? wrong_ : session_->info();
  }
  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> inputs,
                                                  std::span<const engine::OutputWanted> outputs,
                                                  engine::RunControl* control) override {
    return session_->run(inputs, outputs, control);
  }

 private:
  const std::shared_ptr<engine::Session> session_;
  engine::ModelInfo wrong_;
  mutable std::atomic<int> times_{0};
};

TEST_F(SplitSessions, BeginAnewWhereTheFirstAttemptKnewOnlySomeOutputs) {
  ModelWriter m(3, 17);
  const std::string image = m.input("image", {1, 3, 24, 8});
  const std::string first = m.node("Conv", {image, m.weights({4, 3, 3, 3})});
  m.output(first);
  m.output(m.node("Conv", {m.node("Relu", {first}), m.weights({4, 4, 3, 3})}));
  model_ = {m.bytes(), m.random_inputs(), "two outputs"};
  std::ofstream(path_, std::ios::binary) << model_.bytes;
  whole_ = run_model(model_.bytes, model_.inputs);
  std::vector<std::unique_ptr<TestNode>> nodes;
  auto own = test_engine()->open(path_.string(), {.intra_op_threads = 1});
  ASSERT_TRUE(own) << own.error().message;
  const auto session = exec::SplitSession::make(*test_engine(), std::make_shared<Misnamed>(*own),
                                                path_.string(), options(nodes, 2));
  const Deadline limit = Deadline::in(std::chrono::seconds(60));
  while (!session->crew() && Clock::monotonic().now() < limit.at) std::this_thread::yield();
  ASSERT_TRUE(session->crew()) << session->status().state;
  EXPECT_LT(run(*session), 5e-4);
  EXPECT_EQ(session->status().split_runs, 1u);
  EXPECT_EQ(session->status().own_runs, 0u);
}

TEST_F(SplitSessions, StayOnOneNodeWhereNobodyAnswers) {
  std::vector<std::unique_ptr<TestNode>> nodes;
  auto o = options(nodes, 2);
  nodes[0]->stop();
  const auto session = open(std::move(o));
  ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
  EXPECT_EQ(session->status().state, "one node: none of the other nodes answers");
  EXPECT_LT(run(*session), 5e-4);
  EXPECT_EQ(session->status().own_runs, 1u);
}

TEST_F(SplitSessions, StayOnOneNodeWhereANodeIsTooSmall) {
  std::vector<std::unique_ptr<TestNode>> nodes;
  auto o = options(nodes, 2);
  nodes[0]->memory_limit_bytes = 1;
  nodes[0]->stop();
  nodes[0]->start();
  const auto session = open(std::move(o));
  ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
  EXPECT_NE(session->status().state.find("too small"), std::string::npos)
      << session->status().state;
  EXPECT_LT(run(*session), 5e-4);
}

// Holds up the Runs of an engine's bands.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !closed_; });
    --waiting_;
  }
  void set_closed(bool closed) {
    const std::lock_guard lock(mutex_);
    closed_ = closed;
    changed_.notify_all();
  }
  bool wait_for_one() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return waiting_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  int waiting_ = 0;
};

class GatedSession final : public engine::Session {
 public:
  GatedSession(std::shared_ptr<engine::Session> session, Gate& gate)
      : session_(std::move(session)), gate_(gate) {}
  const engine::ModelInfo& info() const override { return session_->info(); }
  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> inputs,
                                                  std::span<const engine::OutputWanted> outputs,
                                                  engine::RunControl* control) override {
    gate_.pass();
    return session_->run(inputs, outputs, control);
  }

 private:
  const std::shared_ptr<engine::Session> session_;
  Gate& gate_;
};

class GatedEngine final : public engine::ForwardingEngine {
 public:
  GatedEngine(std::unique_ptr<engine::Engine> engine, Gate& gate)
      : ForwardingEngine(std::move(engine)), gate_(gate) {}
  Result<std::shared_ptr<engine::Session>> open_bytes(std::span<const std::byte> model,
                                                      const engine::OpenOptions& options) override {
    OB_TRY(auto session, real().open_bytes(model, options));
    return std::shared_ptr<engine::Session>(
        std::make_shared<GatedSession>(std::move(session), gate_));
  }

 private:
  Gate& gate_;
};

// While one Run is split, the next one goes as a whole image to the node that is free.
TEST_F(SplitSessions, HandOutWholeImagesWhileOneIsSplit) {
  const auto folder = path_.string() + ".store";
  serve::ServerOptions served;
  served.store.folder = folder;
  served.settings.split.threads = 1;
  served.listen = {*wire::parse_endpoint("127.0.0.1:0")};
  auto server = serve::Server::start(*engine::load_onnxruntime({}), std::move(served));
  ASSERT_TRUE(server) << server.error().message;
  const wire::Endpoint address = (*server)->addresses()[0];

  Gate gate;
  GatedEngine engine(*engine::load_onnxruntime({}), gate);
  std::vector<std::unique_ptr<TestNode>> none;
  exec::SplitOptions o = options(none, 1);
  o.cluster = slow_nodes(2);
  o.measured_nodes.assign(2, 1);
  o.measured_links.assign(4, 1);
  o.members.push_back({"other", address.to_string(),
                       std::make_shared<wire::Client>(address, wire::ClientOptions{}), 0});
  o.always = false;
  o.least_gain = 0;
  o.least_budget_us = 60e6;
  auto own = engine.open(path_.string(), {.intra_op_threads = 1});
  ASSERT_TRUE(own) << own.error().message;
  {
    const auto session = exec::SplitSession::make(engine, *own, path_.string(), std::move(o));
    ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
    ASSERT_EQ(session->status().state, "split over 2 nodes");
    gate.set_closed(true);
    std::thread first([&] { EXPECT_LT(run(*session), 5e-4); });
    EXPECT_TRUE(gate.wait_for_one());
    EXPECT_LT(run(*session), 5e-4);
    EXPECT_EQ(session->status().handed_out_runs, 1u);
    gate.set_closed(false);
    first.join();
    EXPECT_EQ(session->status().split_runs, 1u);
    EXPECT_EQ(session->status().own_runs, 0u);
  }
  server->reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

TEST_F(SplitSessions, ServeManyClientsAtOnce) {
  std::vector<std::unique_ptr<TestNode>> nodes;
  const auto session = open(options(nodes, 2));
  ASSERT_TRUE(session->wait_until_settled(Deadline::in(std::chrono::seconds(60))));
  std::vector<std::thread> clients;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 4; ++i)
    clients.emplace_back([&] {
      for (int k = 0; k < 20; ++k) wrong += run(*session) < 5e-4 ? 0 : 1;
    });
  for (auto& c : clients) c.join();
  EXPECT_EQ(wrong, 0);
  const auto status = session->status();
  EXPECT_EQ(status.split_runs + status.own_runs + status.handed_out_runs, 80u);
}

}  // namespace
}  // namespace outboard::split
