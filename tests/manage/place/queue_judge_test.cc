// SPDX-License-Identifier: Apache-2.0
// The queueing models behind the Judge interface: what is promised holds in the event simulator.
#include "manage/place/queue_judge.h"

#include <gtest/gtest.h>

#include <cmath>

#include "manage/place/placer.h"
#include "manage/simulate/simulate.h"
#include "tests/manage/place/fixture.h"

namespace outboard::manage {
namespace {

using namespace test;

profile::Cluster edge() {  // published times of two models on an edge TPU
  profile::Cluster c;
  c.devices = {device("tpu", "edge-tpu"), device("gpu", "nano")};
  c.devices[1].discipline = profile::Discipline::kTimeShared;
  c.models = {model("inception_v3", "edge-tpu", 62.95, 19.39),
              model("mobilenet_v2", "edge-tpu", 4.91, 10.43), model("mobilenet_v2", "nano", 13)};
  return c;
}

TEST(QueueJudge, TermsAddUpAndLimitsAreMetWhereItSaysSo) {
  profile::Cluster c = edge();
  c.applications = {app("a", "inception_v3", 4, 300), app("b", "mobilenet_v2", 10, 250)};
  for (auto& a : c.applications) a.device = "tpu";
  const Fleet fleet = fleet_of(c);
  QueueJudge judge;
  const Load load = fleet.load(*fleet.find_device("tpu"));
  const auto verdict = judge.judge(load);
  ASSERT_TRUE(verdict) << verdict.error().message;
  const auto ranges = judge.screen(load);
  ASSERT_TRUE(ranges);
  const auto simulated = simulate(system_of(load), {7, 200000, 0.05});
  ASSERT_TRUE(simulated);
  for (std::size_t i = 0; i < 2; ++i) {
    const Reply& r = verdict->parts[i];
    double sum = 0;
    for (double t : r.terms_us) sum += t;
    EXPECT_NEAR(sum, r.mean_us, 1e-6 * r.mean_us);
    const Estimate p95 = simulated->streams[i].quantile(0.95);
    EXPECT_NEAR(r.percentile_us, p95.value, p95.error + 0.01 * p95.value);
    EXPECT_LE((*ranges)[i].lower_us, r.percentile_us + r.error_us);
    EXPECT_GE((*ranges)[i].upper_us, r.percentile_us - r.error_us);
  }
}

TEST(QueueJudge, AnOwnCopyPaysSwapsThatASharedOneDoesNot) {
  profile::Cluster c = edge();
  c.applications = {app("a", "mobilenet_v2", 10, 250), app("b", "mobilenet_v2", 10, 250)};
  for (auto& a : c.applications) a.device = "tpu";
  QueueJudge judge;
  const Fleet shared = fleet_of(c);
  const auto together = judge.judge(shared.load(1));
  for (auto& a : c.applications) a.share_model = false;
  const Fleet own = fleet_of(c);
  const auto apart = judge.judge(own.load(1));
  ASSERT_TRUE(together && apart);
  EXPECT_NEAR(together->parts[0].terms_us[static_cast<int>(Term::kSwap)], 0, 1);
  EXPECT_NEAR(apart->parts[0].terms_us[static_cast<int>(Term::kSwap)], 5215, 1);
}

TEST(QueueJudge, RemembersByWhatThingsAreNotByTheirNames) {
  profile::Cluster c = edge();
  c.devices.push_back(device("tpu2", "edge-tpu"));
  c.applications = {app("a", "inception_v3", 4, 300), app("b", "mobilenet_v2", 10, 250),
                    app("x", "mobilenet_v2", 10, 250), app("y", "inception_v3", 4, 300)};
  c.applications[0].device = c.applications[1].device = "tpu";
  c.applications[2].device = c.applications[3].device = "tpu2";
  const Fleet fleet = fleet_of(c);
  QueueJudge queue;
  RememberingJudge judge(queue);
  const auto first = judge.judge(fleet.load(1));
  const auto second = judge.judge(fleet.load(2));
  ASSERT_TRUE(first && second);
  EXPECT_EQ(judge.asked(), 2U);
  EXPECT_EQ(judge.computed(), 1U);
  EXPECT_EQ(first->parts[0].percentile_us, second->parts[1].percentile_us);
  EXPECT_EQ(first->parts[1].percentile_us, second->parts[0].percentile_us);
  EXPECT_GT(judge.memory_bytes(), 0U);
}

// Fill a TPU and a GPU until the first refusal; then every limit holds in a simulation with another
// seed, with at most the promised share of requests late.
TEST(QueueJudge, WhatIsAdmittedIsKeptInSimulation) {
  Fleet fleet = fleet_of(edge());
  QueueJudge queue(40000);
  RememberingJudge judge(queue);
  Placer placer(fleet, judge, {});
  int placed = 0;
  for (int i = 0; i < 40; ++i) {
    auto a = app("a" + std::to_string(i), i % 3 ? "mobilenet_v2" : "inception_v3", 5 + i % 4,
                 i % 3 ? 200 : 400, i % 2 ? 95 : 99);
    const AppId id = *fleet.add(a);
    if (placer.admit(id).placed) {
      ++placed;
    } else {
      placer.remove(id);
    }
  }
  EXPECT_GE(placed, 6);
  for (DeviceId d = 0; d < fleet.devices(); ++d) {
    const Load load = fleet.load(d);
    ASSERT_FALSE(load.parts.empty());
    const auto run = simulate(system_of(load), {99, 300000, 0.05});
    ASSERT_TRUE(run);
    for (std::size_t i = 0; i < load.parts.size(); ++i) {
      const auto& limit = load.parts[i].application->limit;
      EXPECT_LE(run->streams[i].late(limit.latency_ms * 1e3).value, 1 - limit.percentile / 100)
          << load.parts[i].application->name;
    }
  }
}

}  // namespace
}  // namespace outboard::manage
