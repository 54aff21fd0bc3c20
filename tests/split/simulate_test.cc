// SPDX-License-Identifier: Apache-2.0
// The simulator and the cluster file by hand-computed examples.
#include <gtest/gtest.h>

#include "split/report/cluster_file.h"
#include "split/report/timeline.h"
#include "split/simulate/simulate.h"

namespace outboard::split {
namespace {

// Two nodes; piece 0 on node 0 for 100 us, a message of 1000 bytes, piece 1 on node 1 for 50 us.
struct Example {
  Cluster cluster;
  Plan plan;
  std::vector<Layout> layouts;

  Example() {
    cluster.nodes.resize(2);
    cluster.nodes[0].name = "a";
    cluster.nodes[1].name = "b";
    cluster.links.assign(4, {10, 1e6});  // a byte a microsecond
    Program program;
    program.participants = {0, 1};
    plan = {{program}, {0}};
    Layout l;
    l.pieces.resize(2);
    l.pieces[0].time_us = 100;
    l.pieces[1] = l.pieces[0];
    l.pieces[1].participant = 1;
    l.pieces[1].time_us = 50;
    l.messages = {{0, 0, 1, 1000, 0, {}}};
    l.waits = {{}, {2}, {0}};
    layouts = {l};
  }
};

TEST(Simulate, AddsComputationDelayAndBytes) {
  const Example e;
  const Schedule s = simulate(e.cluster, e.plan, e.layouts);
  EXPECT_DOUBLE_EQ(s.makespan_us, 100 + 10 + 1000 + 50);
  EXPECT_DOUBLE_EQ(s.busy_us[0], 100);
  EXPECT_DOUBLE_EQ(s.busy_us[1], 50);
  EXPECT_DOUBLE_EQ(s.sent_bytes[0], 1000);
}

TEST(Simulate, OverlapsOneImageWithTheNext) {
  Example e;
  e.plan.images = {0, 0};
  // The second message waits for the interface until 1110, the second image's end is 1110 + 1010
  // + 50.
  EXPECT_DOUBLE_EQ(simulate(e.cluster, e.plan, e.layouts).makespan_us, 2170);
}

TEST(Simulate, SendsOneMessageAtATime) {
  Example e;
  e.layouts[0].messages.push_back({0, 0, 1, 500, 1, {}});
  e.layouts[0].waits = {{}, {2, 3}, {0}, {0}};
  EXPECT_DOUBLE_EQ(simulate(e.cluster, e.plan, e.layouts).makespan_us, 100 + 1010 + 510 + 50);
}

TEST(Simulate, BeginsAfterWorkThatIsThere) {
  Example e;
  e.cluster.nodes[0].busy_us = 70;
  EXPECT_DOUBLE_EQ(simulate(e.cluster, e.plan, e.layouts).makespan_us, 70 + 1160);
}

TEST(Simulate, FollowsARateThatChanges) {
  Example e;
  std::vector<RateTrace> rates(4);
  rates[1] = {{0, 610}, {1, 0.5}, 0};  // 500 bytes until 610 us, the rest at half the rate
  SimulateOptions options;
  options.rates = &rates;
  EXPECT_DOUBLE_EQ(simulate(e.cluster, e.plan, e.layouts, options).makespan_us, 610 + 1000 + 50);
}

TEST(RateTrace, RepeatsItsPeriod) {
  const RateTrace t{{0, 10}, {1, 3}, 20};
  EXPECT_DOUBLE_EQ(t.factor_at(25), 1);
  EXPECT_DOUBLE_EQ(t.factor_at(35), 3);
  EXPECT_DOUBLE_EQ(t.end_us(0, 40, 1e6), 20);  // 10 + 30 in one period
  EXPECT_DOUBLE_EQ(t.end_us(0, 45, 1e6), 25);
}

TEST(RateTrace, GaussMarkovIsTheSameForTheSameSeed) {
  const RateTrace a = gauss_markov(3, 0.3, 20000, 1000, 1e6),
                  b = gauss_markov(3, 0.3, 20000, 1000, 1e6);
  EXPECT_EQ(a.factor, b.factor);
  double sum = 0;
  for (double f : a.factor) sum += f;
  EXPECT_NEAR(sum / static_cast<double>(a.factor.size()), 1, 0.15);
}

TEST(ServiceReliability, IsTheShareOfStartsThatMeetTheDeadline) {
  Channel channel{1e6, {{0, 50}, {1, 0.1}, 100}};  // half of the time ten times slower
  EXPECT_NEAR(service_reliability(channel, 1, 5, 7, 1000), 0.5, 0.01);
  EXPECT_DOUBLE_EQ(service_reliability(channel, 1, 5, 100, 1000), 1);
  EXPECT_DOUBLE_EQ(service_reliability(channel, 1, 5, 4, 1000), 0);
}

std::string fault(const std::string& text) {
  const auto file = cluster_from_text(text, "c.json");
  return file ? "no fault" : file.error().message;
}

TEST(ClusterFile, ReadsNodesAndLinks) {
  const auto file = cluster_from_text(
      R"({"host": "b", "nodes": [{"name": "a", "flops_per_s": 1e9}, {"name": "b", "flops_per_s": 2e9, "call_us": 7}],
          "link": {"delay_us": 5, "rate_bits_per_s": 8e6},
          "links": [{"from": "a", "to": "b", "delay_us": 9, "rate_bits_per_s": 16e6, "both_ways": false}]})",
      "c.json");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->cluster.host, 1);
  EXPECT_DOUBLE_EQ(file->cluster.node(1).call_us, 7);
  EXPECT_DOUBLE_EQ(file->cluster.link(0, 1).delay_us, 9);
  EXPECT_DOUBLE_EQ(file->cluster.link(0, 1).rate_bytes_per_s, 2e6);
  EXPECT_DOUBLE_EQ(file->cluster.link(1, 0).rate_bytes_per_s, 1e6);
}

TEST(ClusterFile, NamesThePlaceOfAFault) {
  EXPECT_NE(fault("{").find("c.json"), std::string::npos);
  EXPECT_NE(fault(R"({"nodes": []})").find("nodes (0)"), std::string::npos);
  EXPECT_NE(
      fault(R"({"nodes": [{"name": "a", "flops_per_s": 0}]})").find("nodes[0].flops_per_s (0)"),
      std::string::npos);
  EXPECT_NE(
      fault(R"({"nodes": [{"name": "a", "flops_per_s": 1e9, "flop": 1}]})").find("nodes[0].flop"),
      std::string::npos);
  EXPECT_NE(
      fault(R"({"host": "x", "nodes": [{"name": "a", "flops_per_s": 1e9}]})").find("host (\"x\")"),
      std::string::npos);
  EXPECT_NE(
      fault(R"({"nodes": [{"name": "a", "flops_per_s": 1e9}, {"name": "b", "flops_per_s": 1e9}]})")
          .find("link from (a) to (b)"),
      std::string::npos);
  EXPECT_NE(
      fault(R"({"nodes": [{"name": "a", "flops_per_s": 1e9}, {"name": "a", "flops_per_s": 1e9}]})")
          .find("nodes[1].name (a)"),
      std::string::npos);
}

}  // namespace
}  // namespace outboard::split
