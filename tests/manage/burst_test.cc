// SPDX-License-Identifier: Apache-2.0
// Bursty arrivals: their statistics, their fit, and when no answer is given.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "manage/queueing/mmpp.h"
#include "manage/queueing/predict.h"
#include "manage/queueing/sharing.h"
#include "manage/queueing/trace.h"
#include "manage/simulate/arrivals.h"
#include "manage/simulate/simulate.h"

namespace outboard::manage {
namespace {

using profile::Burstiness;
using profile::Discipline;
using profile::Distribution;

System one(double rate_per_s, double service_ms) {
  Stream s;
  s.name = "a";
  s.rate_per_s = rate_per_s;
  s.service = Distribution::constant(service_ms * 1e3);
  System system;
  system.streams.push_back(std::move(s));
  return system;
}

std::vector<double> draw(const System& system, std::size_t count, std::uint64_t seed) {
  Random random(seed);
  Arrivals arrivals(system, random);
  std::vector<double> times;
  for (std::size_t i = 0; i < count; ++i) times.push_back(arrivals.next().time_us / 1e6);
  return times;
}

TEST(Mmpp, PoissonStaysPoisson) {
  const Mmpp2 fit = fit_mmpp2(5, {});
  EXPECT_EQ(fit.mean_rate_per_s(), 5);
  EXPECT_EQ(fit.idc(10), 1);
}

RC_GTEST_PROP(MmppProperty, TheFitHasTheRateAndTheDispersion, ()) {
  const double rate = *rc::gen::inRange(1, 200), limit = *rc::gen::inRange(1, 80);
  const double tau = *rc::gen::inRange(1, 50) / rate;
  Burstiness burst;
  for (const double window : {0.3 * tau, 3 * tau, 30 * tau}) {
    const double x = window / tau;
    burst.idc.push_back({window, 1 + limit * (1 + std::expm1(-x) / x)});
  }
  const Mmpp2 fit = fit_mmpp2(rate, burst);
  RC_ASSERT(std::abs(fit.mean_rate_per_s() - rate) < 1e-6 * rate);
  RC_ASSERT(fit.rate_per_s[1] >= 0 && fit.leave_per_s[0] > 0);
  for (const auto& point : burst.idc) {
    RC_ASSERT(std::abs(fit.idc(point.window_s) / point.value - 1) < 0.15);
  }
}

TEST(Mmpp, WhatIsDrawnHasTheDispersion) {
  System system = one(20, 1);
  system.streams[0].burstiness.idc = {{0.1, 1.5}, {1, 4}, {10, 8}};
  const auto times = draw(system, 200000, 3);
  const Burstiness drawn = burstiness_of(times);
  const Mmpp2 fit = fit_mmpp2(20, system.streams[0].burstiness);
  EXPECT_NEAR(static_cast<double>(times.size()) / times.back(), 20, 1);
  for (const auto& point : drawn.idc) {
    if (point.window_s > 20) continue;
    EXPECT_NEAR(point.value / fit.idc(point.window_s), 1, 0.2) << point.window_s;
  }
}

TEST(Trace, APoissonTraceIsTrustedAndAnsweredAsPoisson) {
  System poisson = one(20, 15), recorded = poisson;
  recorded.streams[0].arrivals_s = draw(poisson, 20000, 5);
  Predictor predictor;
  const auto answer = predictor.predict(recorded, {});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->method, Method::kTrace);
  const auto exact = predictor.predict(poisson, {});
  EXPECT_NEAR(answer->streams[0].percentile_us / exact->streams[0].percentile_us, 1, 0.06);
}

TEST(Trace, WhatChangesOrIsShortOrNearSaturationIsRefused) {
  Predictor predictor;
  System drifting = one(20, 15);
  for (int i = 0; i < 8000; ++i) {
    drifting.streams[0].arrivals_s.push_back(i * 0.05 * (i < 6000 ? 1 : 0.7));
  }
  std::sort(drifting.streams[0].arrivals_s.begin(), drifting.streams[0].arrivals_s.end());
  auto answer = predictor.predict(drifting, {});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kRefused);
  EXPECT_NE(answer.error().message.find("no ground"), std::string::npos);
  EXPECT_TRUE(predictor.predict(drifting, {.replay = true}));

  System brief = one(20, 15);
  brief.streams[0].arrivals_s = {0, 0.1, 0.2};
  answer = predictor.predict(brief, {});
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message.find("(3) arrivals"), std::string::npos);

  System full = one(20, 44);
  full.streams[0].arrivals_s = draw(full, 20000, 6);
  EXPECT_FALSE(predictor.predict(full, {}));
}

TEST(Trace, DispersionThatStillGrowsIsRefused) {
  System system = one(20, 15);
  system.streams[0].burstiness.idc = {{1, 3}, {60, 90}};
  Predictor predictor;
  const auto answer = predictor.predict(system, {});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kRefused);
  system.streams[0].burstiness.idc = {{1, 3}, {10, 5}, {60, 6}};
  const auto levelled = predictor.predict(system, {});
  ASSERT_TRUE(levelled) << levelled.error().message;
  const auto poisson = predictor.predict(one(20, 15), {});
  EXPECT_GT(levelled->streams[0].percentile_us, poisson->streams[0].percentile_us);
}

TEST(Sharing, TheGammaDistributionIsThat) {
  EXPECT_NEAR(gamma_cdf(1, 2), 1 - std::exp(-2), 1e-10);
  EXPECT_NEAR(gamma_cdf(3, 2), 1 - std::exp(-2) * (1 + 2 + 2), 1e-10);
  EXPECT_NEAR(gamma_cdf(3, 9), 1 - std::exp(-9) * (1 + 9 + 40.5), 1e-10);
  EXPECT_NEAR(gamma_cdf(0.5, 0.3), std::erf(std::sqrt(0.3)), 1e-10);
}

// Goals: mean within 10 %, p95 within 15 % for devices that share time, to rho 0.8, 2 to 6 models,
// services to 10 : 1.
RC_GTEST_PROP(SharingProperty, AgreesWithTheSimulator, ()) {
  System system;
  system.discipline = *rc::gen::element(Discipline::kTimeShared, Discipline::kProcessorSharing);
  for (int j = *rc::gen::inRange(2, 7); j > 0; --j) {
    Stream s = one(*rc::gen::inRange(1, 10), *rc::gen::inRange(10, 101)).streams[0];
    s.model = j;
    system.streams.push_back(s);
  }
  const double factor = *rc::gen::inRange(20, 81) / 100.0 / system.utilisation();
  for (Stream& s : system.streams) s.rate_per_s *= factor;
  Predictor predictor;
  const auto answer = predictor.predict(system, {.requests = 100000});
  const auto judge = simulate(system, {.seed = 77, .requests = 200000});
  RC_ASSERT(answer.has_value() && judge.has_value());
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    const Estimate mean = judge->streams[i].mean(), p95 = judge->streams[i].quantile(0.95);
    RC_ASSERT(std::abs(answer->streams[i].mean_us - mean.value) <= 0.1 * mean.value + mean.error);
    RC_ASSERT(std::abs(answer->streams[i].percentile_us - p95.value) <=
              0.15 * p95.value + p95.error);
  }
}

}  // namespace
}  // namespace outboard::manage
