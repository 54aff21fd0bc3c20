// SPDX-License-Identifier: Apache-2.0
#include "split/exec/corrections.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/split/exec/part_cluster.h"
#include "tests/split/random_model.h"
#include "tests/split/random_program.h"

namespace outboard::split {
namespace {

using namespace testing;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// Nodes whose profiles are of units; what these do not say takes next to nothing.
Cluster profiled_nodes(const Graph& graph, int n) {
  Cluster nodes = equal_nodes(n);
  for (auto& node : nodes.nodes) {
    node.flops_per_s = 1e18;
    for (const Unit& unit : graph.units) node.units[unit.name] = {{1, 8}, {100, 450}};
  }
  return nodes;
}

Cluster corrected(const Cluster& nodes, const Graph& graph, const exec::Corrections& corrections) {
  Cluster out = nodes;
  for (int m = 0; m < nodes.size(); ++m)
    out.nodes[at(m)] = corrections.applied(m, graph, nodes.node(m));
  return out;
}

class Corrected : public ::testing::TestWithParam<int> {};

// Whatever the blocks of a plan took, a member a block: the same plan is foretold as it was.
TEST_P(Corrected, ThePlanThatWasTriedIsForetoldAsItWas) {
  const auto seed = static_cast<std::uint64_t>(GetParam());
  const auto graph = graph_of_bytes(random_image_model(seed).bytes);
  std::set<std::string> names;
  for (const Unit& unit : graph->units) names.insert(unit.name);
  if (names.size() < graph->units.size()) GTEST_SKIP() << "two units share a name, and a curve";
  std::mt19937_64 random(seed + 5);
  const Cluster nodes = profiled_nodes(*graph, 2 + static_cast<int>(random() % 2));
  const Program program = random_program(*graph, nodes, random);
  const Layout planned = LayoutBuilder(*graph, nodes).build(program);
  std::uniform_real_distribution<double> factor(0.5, 2.0);
  std::vector<double> of_block(at(program.size()) * program.blocks.size());
  for (double& f : of_block) f = factor(random);
  const auto took = [&](const Layout& layout, std::size_t i) {
    const Piece& p = layout.pieces[i];
    return planned.pieces[i].time_us *
           of_block[at(p.participant) * program.blocks.size() + at(p.block)];
  };
  std::vector<double> took_us;
  for (std::size_t i = 0; i < planned.pieces.size(); ++i) took_us.push_back(took(planned, i));

  exec::Corrections corrections(nodes.size(), static_cast<int>(graph->units.size()));
  corrections.learn(program, planned, took_us);
  const Layout again = LayoutBuilder(*graph, corrected(nodes, *graph, corrections)).build(program);
  ASSERT_EQ(again.pieces.size(), planned.pieces.size());
  for (std::size_t i = 0; i < again.pieces.size(); ++i)
    EXPECT_NEAR(again.pieces[i].time_us, took_us[i], 1e-6 * took_us[i] + 1e-3) << "piece " << i;
}

INSTANTIATE_TEST_SUITE_P(Seeds, Corrected, ::testing::Range(1, 31));

TEST(Corrections, UnitsThatAMemberNeverComputedAreAsItsOthers) {
  const auto graph = graph_of_bytes(random_image_model(3).bytes);
  const Cluster nodes = profiled_nodes(*graph, 2);
  const int units = static_cast<int>(graph->units.size());
  // Everything on member 0.
  const Program program{"all", {0, 1}, {{0, units, 1, {0, 1, 1}}}, false, 1};
  const Layout planned = LayoutBuilder(*graph, nodes).build(program);
  std::vector<double> took_us;
  for (const Piece& p : planned.pieces) took_us.push_back(1.5 * p.time_us);
  exec::Corrections corrections(2, units);
  corrections.learn(program, planned, took_us);
  for (const auto& [name, curve] : corrections.applied(0, *graph, nodes.node(0)).units)
    EXPECT_NEAR(curve.time_us[0], 150, 1e-6) << name;
  EXPECT_EQ(corrections.applied(1, *graph, nodes.node(1)), nodes.node(1));
}

TEST(Corrections, WhatIsNotKnownChangesNothing) {
  const auto graph = graph_of_bytes(random_image_model(4).bytes);
  const Cluster nodes = profiled_nodes(*graph, 2);
  std::mt19937_64 random(4);
  const Program program = random_program(*graph, nodes, random);
  const Layout planned = LayoutBuilder(*graph, nodes).build(program);
  exec::Corrections corrections(2, static_cast<int>(graph->units.size()));
  corrections.learn(program, planned, std::vector<double>(planned.pieces.size(), 0));
  EXPECT_EQ(corrections.applied(0, *graph, nodes.node(0)), nodes.node(0));
  EXPECT_EQ(exec::Corrections().applied(1, *graph, nodes.node(1)), nodes.node(1));
}

}  // namespace
}  // namespace outboard::split
