// SPDX-License-Identifier: Apache-2.0
// The rules of others, by hand.
#include "manage/place/baselines.h"

#include <gtest/gtest.h>

#include "tests/manage/place/fixture.h"

namespace outboard::manage {
namespace {

using namespace test;

// Devices of 100 bytes, of which 80 may be used; m takes 30, n 50.
profile::Cluster memory_cluster() {
  profile::Cluster c;
  for (const char* name : {"a", "b", "c"}) c.devices.push_back(device(name, "k", 100));
  c.models = {model("m", "k", 1, 0, 30), model("n", "k", 1, 0, 50), model("o", "k", 1, 0, 10)};
  c.applications = {app("n0", "n", 1, 100), app("m0", "m", 1, 100), app("new", "o", 1, 100)};
  c.applications[0].device = "a";
  c.applications[1].device = "b";
  return c;
}

std::string choice(Rule rule, const profile::Cluster& c, const std::string& name = "new") {
  Fleet fleet = fleet_of(c);
  Baseline baseline(fleet, rule);
  const auto device = baseline.admit(*fleet.find(name));
  return device ? fleet.device(*device).name : "";
}

TEST(Baseline, MemoryRulesChooseFirstLeastAndMost) {
  const auto c = memory_cluster();
  EXPECT_EQ(choice(Rule::kMemoryFirst, c), "a");
  EXPECT_EQ(choice(Rule::kMemoryBest, c), "a");
  EXPECT_EQ(choice(Rule::kMemoryWorst, c), "c");
}

TEST(Baseline, MemoryRulesGoWhereTheModelIs) {
  auto c = memory_cluster();
  c.applications[2].model = "m";
  for (Rule rule : {Rule::kMemoryFirst, Rule::kMemoryBest, Rule::kMemoryWorst}) {
    EXPECT_EQ(choice(rule, c), "b");
  }
  c.applications[2].share_model = false;
  EXPECT_EQ(choice(Rule::kMemoryWorst, c), "c");
}

TEST(Baseline, FourFifthsOfMemoryAreUsed) {
  auto c = memory_cluster();
  c.devices.resize(1);
  c.applications = {app("n0", "n", 1, 100), app("new", "m", 1, 100)};
  c.applications[0].device = "a";
  EXPECT_EQ(choice(Rule::kMemoryFirst, c), "a");  // 50 + 30 = 80
  c.models[0].memory_per_application_bytes = 1;
  EXPECT_EQ(choice(Rule::kMemoryFirst, c), "");
}

// By hand from the published formulas: two models on a first-come device.
TEST(Baseline, IbisMeansAreThePublishedFormulas) {
  profile::Cluster c;
  c.devices = {device("a", "tpu")};
  c.devices[0].network = profile::Distribution::constant(10e3);
  c.models = {model("m", "tpu", 10, 20), model("n", "tpu", 30, 6)};
  for (auto& m : c.models) m.before = profile::Distribution::constant(20e3);
  c.applications = {app("x", "m", 6, 100), app("y", "n", 4, 100)};
  for (auto& a : c.applications) a.device = "a";
  const Fleet fleet = fleet_of(c);
  const auto means = Baseline::ibis_means(fleet.load(0));
  const double sx = 10 + 0.4 * 20, sy = 30 + 0.6 * 6;
  const double rho = 0.006 * sx + 0.004 * sy;
  const double wait = 0.01 * (0.6 * sx * sx + 0.4 * sy * sy) / (2 * (1 - rho));
  EXPECT_NEAR(means.utilisation, rho, 1e-12);
  EXPECT_NEAR(means.response_ms[0], sx + wait + 20 / (1 - 0.12) + 10, 1e-9);
  EXPECT_NEAR(means.response_ms[1], sy + wait + 20 / (1 - 0.08) + 10, 1e-9);
}

TEST(Baseline, IbisSharesTheProcessorOnOtherDevices) {
  profile::Cluster c;
  c.devices = {device("a", "gpu")};
  c.devices[0].discipline = profile::Discipline::kTimeShared;
  c.models = {model("m", "gpu", 10, 20), model("n", "gpu", 30)};
  c.applications = {app("x", "m", 20, 100), app("y", "n", 10, 100)};
  for (auto& a : c.applications) a.device = "a";
  const auto means = Baseline::ibis_means(fleet_of(c).load(0));
  const double s = 20. / 30 * 10 + 10. / 30 * 30;  // ms
  const double wait = 1 / (1 / s - 0.03) - s;      // Eq. 7
  EXPECT_NEAR(means.response_ms[0], 10 + wait, 1e-9);
  EXPECT_NEAR(means.response_ms[1], 30 + wait, 1e-9);
}

TEST(Baseline, IbisKeepsUtilisationBelowFourFifthsAndMeansBelowTheLimit) {
  profile::Cluster c;
  c.devices = {device("a", "tpu")};
  c.models = {model("m", "tpu", 10)};
  c.applications = {app("x", "m", 70, 1000), app("new", "m", 9, 1000)};
  c.applications[0].device = "a";
  // (e) of the published rules is about an application's rate against its response time.
  EXPECT_EQ(choice(Rule::kIbisBreadth, c), "");
  c.applications[0].rate_per_s = 15;
  EXPECT_EQ(choice(Rule::kIbisBreadth, c), "a");
  c.applications[1].limit.latency_ms = 11;  // 10 + wait 1.6
  EXPECT_EQ(choice(Rule::kIbisBreadth, c), "");
}

TEST(Baseline, IbisBreadthGoesToTheModelThenToIdleThenToLeastUsed) {
  profile::Cluster c;
  for (const char* name : {"a", "b", "c"}) c.devices.push_back(device(name, "tpu"));
  c.models = {model("m", "tpu", 10), model("n", "tpu", 10)};
  c.applications = {app("x", "n", 5, 1000), app("y", "m", 9, 1000), app("new", "m", 1, 1000)};
  c.applications[0].device = "a";
  c.applications[1].device = "b";
  EXPECT_EQ(choice(Rule::kIbisBreadth, c), "b");
  c.applications[1].model = "n";
  EXPECT_EQ(choice(Rule::kIbisBreadth, c), "c");
  EXPECT_EQ(choice(Rule::kIbisDepth, c), "a");
  c.devices.pop_back();
  EXPECT_EQ(choice(Rule::kIbisBreadth, c), "a");
}

TEST(Baseline, UtilisationUnitsFillOneDeviceAndKnowNoSwaps) {
  profile::Cluster c;
  for (const char* name : {"a", "b"}) c.devices.push_back(device(name, "tpu"));
  c.models = {model("m", "tpu", 10, 500), model("n", "tpu", 10, 500)};
  c.applications = {app("x", "n", 50, 1), app("new", "m", 50, 1)};
  c.applications[0].device = "a";
  EXPECT_EQ(choice(Rule::kUtilisationUnits, c), "a");
  c.applications[1].rate_per_s = 51;
  EXPECT_EQ(choice(Rule::kUtilisationUnits, c), "b");
}

}  // namespace
}  // namespace outboard::manage
