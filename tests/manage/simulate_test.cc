// SPDX-License-Identifier: Apache-2.0
// The judge is judged by closed forms.
#include "manage/simulate/simulate.h"

#include <gtest/gtest.h>

#include <cmath>

namespace outboard::manage {
namespace {

using profile::Discipline;
using profile::Distribution;

Stream stream(int model, double rate_per_s, Distribution service, double swap_ms = 0) {
  Stream s;
  s.name = "m" + std::to_string(model);
  s.model = model;
  s.rate_per_s = rate_per_s;
  s.service = std::move(service);
  s.swap = Distribution::constant(swap_ms * 1e3);
  return s;
}

Stream constant(int model, double rate_per_s, double service_ms, double swap_ms = 0) {
  return stream(model, rate_per_s, Distribution::constant(service_ms * 1e3), swap_ms);
}

// Quantiles of the exponential distribution, which is close enough to it (mean exact to 10^-3).
Distribution exponential(double mean_ms) {
  std::vector<profile::Atom> atoms;
  for (int i = 0; i < 2000; ++i) {
    atoms.push_back({-std::log((i + 0.5) / 2000) * mean_ms * 1e3, 1});
  }
  return *Distribution::from_atoms(std::move(atoms));
}

System system_of(Discipline discipline, std::vector<Stream> streams, int servers = 1) {
  return {discipline, servers, 0, std::move(streams)};
}

// Within the confidence interval, widened a little for bias of the start and of the stated service.
void expect_near(const Estimate& estimate, double truth, double slack = 0.015) {
  EXPECT_NEAR(estimate.value, truth, 1.5 * estimate.error + slack * truth);
}

TEST(Simulate, FcfsIsPollaczekKhinchine) {
  const auto run = simulate(system_of(Discipline::kFcfs, {constant(0, 7, 100)}), {});
  expect_near(run->streams[0].mean(), 1e5 + 7e-6 * 1e10 / 0.6);
}

TEST(Simulate, SeveralServersAreErlangC) {
  // M/M/3 at rho 0.8: P(wait) = 0.6472, E[wait] = P(wait) / (3 mu - lambda).
  const auto run = simulate(system_of(Discipline::kFcfs, {stream(0, 24, exponential(100))}, 3), {});
  expect_near(run->streams[0].mean(), 1e5 + 0.64719 / (30e-6 - 24e-6), 0.02);
}

TEST(Simulate, ProcessorSharingIsInsensitive) {
  const auto run = simulate(system_of(Discipline::kProcessorSharing,
                                      {constant(0, 30, 10), stream(1, 4, exponential(100))}),
                            {.seed = 1, .requests = 1000000});
  expect_near(run->streams[0].mean(), 10e3 / 0.3, 0.02);
  expect_near(run->streams[1].mean(), 100e3 / 0.3, 0.02);
}

// Cobham's formula: the most important of two classes waits W0 / (1 - rho1).
TEST(Simulate, PriorityIsCobhams) {
  auto first = constant(0, 4, 50), second = constant(0, 4, 100);
  first.priority = 0;
  second.priority = 1;
  const auto run = simulate(system_of(Discipline::kPriority, {first, second}), {});
  const double w0 = 0.5 * (4e-6 * 25e8 + 4e-6 * 1e10);
  expect_near(run->streams[0].mean(), 50e3 + w0 / (1 - 0.2));
  expect_near(run->streams[1].mean(), 100e3 + w0 / ((1 - 0.2) * (1 - 0.6)));
}

// Inoue's bounds (arXiv 1912.06322) on the mean when a batch takes all that waits are 0 to 8 %
// high.
TEST(Simulate, BatchingIsInouesBound) {
  auto s = constant(0, 100, 1);
  s.batch = profile::BatchTime{4e3, 20e3, 4096};
  const auto run = simulate(system_of(Discipline::kBatching, {s}), {});
  const double a = 4e3, t = 20e3, l = 100e-6;
  const double bound0 = (a + t) / (2 * (1 - l * a)) * (1 + 2 * l * t + (1 - l * t) / (1 + l * a));
  const double bound1 = 1.5 * t / (1 - l * a) + a / 2 * (l * a + 2) / (1 - l * l * a * a);
  const double bound = std::min(bound0, bound1);
  EXPECT_LT(run->streams[0].mean().value, bound * 1.01);
  EXPECT_GT(run->streams[0].mean().value, bound * 0.91);
}

// A lone request waits for the whole window, a full batch does not.
TEST(Simulate, BatchesWaitForCompany) {
  auto s = constant(0, 0.01, 1);
  s.batch = profile::BatchTime{1e3, 2e3, 2};
  s.arrivals_s = {0, 10, 10.001};
  System system = system_of(Discipline::kBatching, {s});
  system.batch_wait_us = 5e3;
  const auto run = simulate(system, {});
  ASSERT_EQ(run->streams[0].responses_us.size(), 3U);
  EXPECT_NEAR(run->streams[0].responses_us[0], 5e3 + 3e3, 1);
  EXPECT_NEAR(run->streams[0].responses_us[1], 1e3 + 4e3, 1);
  EXPECT_NEAR(run->streams[0].responses_us[2], 4e3, 1);
}

// Two models that start together share; the second of the longer model's own requests waits.
TEST(Simulate, TimeSharingIsFairAcrossModels) {
  auto a = constant(0, 1, 10), b = constant(1, 1, 30);
  a.arrivals_s = {0, 100};
  b.arrivals_s = {0, 0.001};
  const auto run = simulate(system_of(Discipline::kTimeShared, {a, b}), {});
  EXPECT_NEAR(run->streams[0].responses_us[0], 20e3, 1);
  EXPECT_NEAR(run->streams[1].responses_us[0], 40e3, 1);  // 20 shared, then 20 alone
  EXPECT_NEAR(run->streams[1].responses_us[1], 69e3, 1);  // came at 1, starts at 40
  b.slow_down_per_other = a.slow_down_per_other = 1.5;
  const auto slow = simulate(system_of(Discipline::kTimeShared, {a, b}), {});
  EXPECT_NEAR(slow->streams[0].responses_us[0], 30e3, 1);
}

TEST(Simulate, SwapsArePaidWhenTheModelChanges) {
  auto a = constant(0, 1, 10, 5), b = constant(1, 1, 10, 7);
  a.arrivals_s = {0, 1, 3};
  b.arrivals_s = {2, 2.5};
  const auto run = simulate(system_of(Discipline::kFcfs, {a, b}), {});
  EXPECT_EQ(run->streams[0].responses_us, (std::vector<float>{10e3F, 10e3F, 15e3F}));
  EXPECT_EQ(run->streams[1].responses_us, (std::vector<float>{17e3F, 10e3F}));
}

// The earliest deadline goes first, whoever came first.
TEST(Simulate, EdfServesTheMostUrgent) {
  auto a = constant(0, 1, 100), b = constant(0, 1, 10);
  a.limit = {95, 1000};
  b.limit = {95, 50};
  a.arrivals_s = {0, 0.010};
  b.arrivals_s = {0.020, 50};
  const auto run = simulate(system_of(Discipline::kEdf, {a, b}), {});
  EXPECT_NEAR(run->streams[1].responses_us[0], 90e3, 1);
  EXPECT_NEAR(run->streams[0].responses_us[1], 200e3, 1);
}

TEST(Simulate, TheSeedDecides) {
  const auto system =
      system_of(Discipline::kTimeShared, {constant(0, 30, 10), constant(1, 3, 100)});
  const auto a = simulate(system, {.seed = 7, .requests = 2000});
  const auto b = simulate(system, {.seed = 7, .requests = 2000});
  const auto c = simulate(system, {.seed = 8, .requests = 2000});
  EXPECT_EQ(a->streams[0].responses_us, b->streams[0].responses_us);
  EXPECT_NE(a->streams[0].responses_us, c->streams[0].responses_us);
}

TEST(Simulate, RefusesAnUnstableLoad) {
  const auto run = simulate(system_of(Discipline::kFcfs, {constant(0, 11, 100)}), {});
  ASSERT_FALSE(run);
  EXPECT_NE(run.error().message.find("(1.100)"), std::string::npos);
}

}  // namespace
}  // namespace outboard::manage
