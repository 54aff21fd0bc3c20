// SPDX-License-Identifier: Apache-2.0
// Plans: whatever the scheme, cuts, blocks and pieces, running the layout gives the whole model's
// result; and no plan is behind a baseline, behind one node, or too large for a node.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <sys/resource.h>

#include <cmath>
#include <filesystem>

#include "split/plan/search.h"
#include "tests/split/plan_run.h"
#include "tests/split/random_model.h"
#include "tests/split/random_program.h"

namespace outboard::split {
namespace {

using testing::equal_nodes;
using testing::random_program;
using testing::Value;
using testing::Values;

Graph graph_of(const std::string& bytes) {
  auto file = OnnxFile::parse(std::as_bytes(std::span(bytes)), ".");
  RC_ASSERT(file.has_value());
  auto graph = build_graph(*file);
  RC_ASSERT(graph.has_value());
  return *std::move(graph);
}

void expect_same(const Values& got, const Values& want, const std::string& where) {
  for (const auto& [name, value] : want) {
    const Value& v = got.at(name);
    RC_ASSERT(v.shape == value.shape);
    for (std::size_t i = 0; i < value.floats.size(); ++i)
      if (!(std::abs(double{v.floats[i]} - value.floats[i]) <=
            5e-4 * std::max(1.0, std::abs(double{value.floats[i]}))))
        RC_FAIL(where + ": " + name + "[" + std::to_string(i) + "] is " +
                std::to_string(v.floats[i]) + ", expected " + std::to_string(value.floats[i]));
  }
}

void check_programs(const testing::RandomModel& model, std::uint64_t seed) {
  const Graph g = graph_of(model.bytes);
  const Values whole = testing::run_model(model.bytes, model.inputs);
  std::mt19937_64 random(seed + 1);
  const Cluster cluster = equal_nodes(1 + static_cast<int>(random() % 4));
  for (int i = 0; i < 2; ++i)
    expect_same(testing::run_program(g, cluster, random_program(g, cluster, random), model.inputs),
                whole, "random program");
  switch (random() % 5) {
    case 0:
      return expect_same(
          testing::run_program(g, cluster, baseline(Scheme::kHalp, g, cluster), model.inputs),
          whole, "halp");
    case 1:
      return expect_same(
          testing::run_program(g, cluster, baseline(Scheme::kModnn, g, cluster), model.inputs),
          whole, "modnn");
    case 2:
      return expect_same(
          testing::run_program(g, cluster, baseline(Scheme::kDpfp, g, cluster), model.inputs),
          whole, "dpfp");
    case 3:
      return expect_same(
          testing::run_program(g, cluster, baseline(Scheme::kTiles, g, cluster), model.inputs),
          whole, "tiles");
    default:
      break;
  }
  PlanRequest request;
  request.effort = 0.005;
  const PlanResult best = plan(g, cluster, request);
  for (const auto& program : best.plan.programs)
    expect_same(testing::run_program(g, cluster, program, model.inputs), whole, "auto");
}

RC_GTEST_PROP(Programs, OfImageNetworksGiveTheWholeResult, (std::uint64_t seed)) {
  if (testing::runtime_available()) check_programs(testing::random_image_model(seed), seed);
}

RC_GTEST_PROP(Programs, OfTokenNetworksGiveTheWholeResult, (std::uint64_t seed)) {
  if (testing::runtime_available() && seed % 4 == 0)
    check_programs(testing::random_token_model(seed), seed);
}

// A chain of 3x3 convolutions and pools, VGG-like but small.
std::string vgg_like(int height, int channels = 32) {
  testing::ModelWriter m;
  std::string x = m.input("image", {1, 3, height, height});
  std::int64_t c = 3, h = height;
  for (int stage = 0; stage < 3; ++stage) {
    for (int i = 0; i < 2; ++i) {
      x = m.node("Conv", {x, m.weights({channels, c, 3, 3})});
      m.last().add_attribute()->set_name("pads");
      m.last().mutable_attribute(0)->set_type(onnx::AttributeProto::INTS);
      for (int k = 0; k < 4; ++k) m.last().mutable_attribute(0)->add_ints(1);
      c = channels;
      x = m.node("Relu", {x});
    }
    x = m.node("MaxPool", {x});
    for (const char* name : {"kernel_shape", "strides"}) {
      auto& a = *m.last().add_attribute();
      a.set_name(name);
      a.set_type(onnx::AttributeProto::INTS);
      a.add_ints(2);
      a.add_ints(2);
    }
    h /= 2;
  }
  x = m.node("Gemm", {m.node("Flatten", {x}), m.weights({c * h * h, 128})});
  m.output(m.node("Gemm", {x, m.weights({128, 10})}));
  return m.bytes();
}

double cpu_ms() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec) * 1e3 +
         static_cast<double>(usage.ru_utime.tv_usec) / 1e3;
}

RC_GTEST_PROP(Planner, IsNeverBehindABaselineNorOneNode, (std::uint64_t seed)) {
  if (seed % 8 != 0) return;
  std::mt19937_64 random(seed);
  static const Graph g = graph_of(vgg_like(64));
  const double rates[] = {1e7, 1e8, 1e9, 1e10}, flops[] = {1e9, 1e10, 1e11, 1e12};
  Cluster c = equal_nodes(2 + static_cast<int>(random() % 4), flops[random() % 4],
                          static_cast<double>(random() % 300), rates[random() % 4]);
  for (auto& node : c.nodes) {
    node.flops_per_s *= 0.2 + static_cast<double>(random() % 100) / 100;
    node.call_us = static_cast<double>(random() % 60);
  }
  PlanRequest request;
  request.images = 1 + static_cast<int>(random() % 5);
  request.effort = 0.02;
  const PlanResult best = plan(g, c, request);
  RC_ASSERT(best.schedule.makespan_us <= best.single_us * (1 + 1e-9));
  for (Scheme s : {Scheme::kSingle, Scheme::kHalp, Scheme::kModnn, Scheme::kDpfp, Scheme::kTiles})
    RC_ASSERT(best.schedule.makespan_us <=
              plan_baseline(s, g, c, request.images).schedule.makespan_us * (1 + 1e-9));
}

TEST(Planner, ReachesTheBoundOfAFastNetwork) {
  const Graph g = graph_of(vgg_like(96));
  Cluster c = equal_nodes(3, 1e9, 0, 1e13);
  const PlanResult r = plan(g, c);
  EXPECT_GT(r.single_us / r.schedule.makespan_us, 2.8);
  const PlanResult h = plan_baseline(Scheme::kHalp, g, c);
  EXPECT_LT(h.single_us / h.schedule.makespan_us, 2.2);  // two halves and a strip cannot do more
}

TEST(Planner, GivesUnequalNodesSharesByTheirSpeed) {
  const Graph g = graph_of(vgg_like(128));
  Cluster c = equal_nodes(3, 1e9, 0, 1e13);
  c.nodes[1].flops_per_s = 0.5e9;
  c.nodes[2].flops_per_s = 0.25e9;
  const PlanResult r = plan(g, c);
  EXPECT_GT(r.single_us / r.schedule.makespan_us, 0.9 * 1.75);
}

TEST(Planner, StaysOnOneNodeWhereTheNetworkIsSlow) {
  const Graph g = graph_of(vgg_like(64));
  const PlanResult r = plan(g, equal_nodes(3, 1e12, 5000, 1e6));
  EXPECT_EQ(r.plan.programs.front().size(), 1);
  EXPECT_DOUBLE_EQ(r.schedule.makespan_us, r.single_us);
}

TEST(Planner, LeavesOutANodeThatIsTooSmall) {
  const Graph g = graph_of(vgg_like(64));
  Cluster c = equal_nodes(2, 1e9, 0, 1e12);
  c.nodes[1].memory_bytes = 1000;
  const PlanResult r = plan(g, c);
  EXPECT_EQ(r.plan.programs.front().size(), 1);
  bool said = false;
  for (const auto& a : r.alternatives) said |= !a.refused.empty();
  EXPECT_TRUE(said);
}

TEST(Planner, HandsOutWholeImagesWhenTheQueueIsLong) {
  const Graph g = graph_of(vgg_like(64));
  const Cluster c = equal_nodes(3, 1e10, 300, 1e9);
  PlanRequest request;
  request.images = 12;
  const PlanResult r = plan(g, c, request);
  EXPECT_TRUE(r.alternatives[0].name.starts_with("whole images")) << r.alternatives[0].name;
  EXPECT_GT(r.single_us / r.schedule.makespan_us, 2.6);
}

TEST(Planner, CountsLateImagesBeforeTheMakespan) {
  const Graph g = graph_of(vgg_like(64));
  const Cluster c = equal_nodes(3, 1e10, 10, 1e10);
  PlanRequest request;
  const PlanResult fast = plan(g, c, request);
  request.deadline_us = fast.schedule.makespan_us * 1.01;
  EXPECT_FALSE(plan(g, c, request).late);
  request.deadline_us = fast.schedule.makespan_us * 0.5;
  EXPECT_TRUE(plan(g, c, request).late);
}

TEST(Planner, IsDeterministic) {
  const Graph g = graph_of(vgg_like(64));
  const Cluster c = equal_nodes(4, 1e10, 30, 1e9);
  const PlanResult a = plan(g, c), b = plan(g, c);
  EXPECT_EQ(a.schedule.makespan_us, b.schedule.makespan_us);
  EXPECT_EQ(a.schedule.image_end_us, b.schedule.image_end_us);
}

TEST(Planner, PlansAgainFromThePlanInUse) {
  const Graph g = graph_of(vgg_like(224, 64));
  Cluster c = equal_nodes(3, 1e11, 50, 1e9);
  double begin = cpu_ms();
  const PlanResult first = plan(g, c);
  EXPECT_LT(cpu_ms() - begin, 1000);
  for (auto& link : c.links) link.rate_bytes_per_s /= 20;
  begin = cpu_ms();
  const PlanResult again = replan(g, c, first);
  EXPECT_LT(cpu_ms() - begin, 50);
  Plan stale{first.plan.programs, first.plan.images};
  LayoutBuilder builder(g, c);
  EXPECT_LE(again.schedule.makespan_us,
            simulate(c, stale, {builder.build(stale.programs[0])}).makespan_us * (1 + 1e-9));
}

// The published models, where scripts/make_models.py has made them: a second of CPU at most for a
// plan, 50 ms for a new one.
TEST(Planner, IsFastOnThePublishedModels) {
  const char* root = std::getenv("OUTBOARD_SOURCE_DIR");
  const auto folder = std::filesystem::path(root ? root : ".") / "build/models";
  for (const char* name : {"vgg-16", "resnet-50", "openpose-body25"})
    for (int nodes : {3, 8}) {
      const auto path = folder / (std::string(name) + ".onnx");
      if (!std::filesystem::exists(path))
        GTEST_SKIP() << "NO " << path
                     << ": run scripts/make_models.py; planning times are not checked";
      auto file = OnnxFile::open(path.string());
      ASSERT_TRUE(file.has_value());
      auto g = build_graph(*file);
      ASSERT_TRUE(g.has_value());
      Cluster c = equal_nodes(nodes, 1.41e12, 50, 40e9);
      double begin = cpu_ms();
      const PlanResult r = plan(*g, c);
      EXPECT_LT(cpu_ms() - begin, 1000) << name << " on " << nodes;
      for (auto& link : c.links) link.rate_bytes_per_s *= 0.5;
      begin = cpu_ms();
      replan(*g, c, r);
      EXPECT_LT(cpu_ms() - begin, 50) << name << " on " << nodes << ", again";
    }
}

}  // namespace
}  // namespace outboard::split
