// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/predict.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "manage/simulate/simulate.h"
#include "tests/manage/systems.h"

namespace outboard::manage {
namespace {

using profile::Discipline;
using profile::Distribution;

// What must hold of a prediction and an independent simulation of the same system.
void compare(const System& system, const Answer& answer, const Simulated& run, double tolerance) {
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    const Estimate mean = run.streams[i].mean(), p95 = run.streams[i].quantile(0.95);
    const StreamAnswer& a = answer.streams[i];
    RC_ASSERT(std::abs(a.mean_us - mean.value) <=
              2 * mean.error + a.mean_error_us + tolerance * mean.value);
    RC_ASSERT(std::abs(a.percentile_us - p95.value) <=
              2 * p95.error + a.percentile_error_us + tolerance * p95.value);
    const Terms& t = a.terms;
    const double sum = t.service_us + t.swap_us + t.queue_us + t.sharing_us + t.outside_us;
    RC_ASSERT(std::abs(sum - a.mean_us) < 1e-3 * a.mean_us);
  }
}

RC_GTEST_PROP(PredictProperty, ExactAgreesWithTheSimulator, ()) {
  System system = system_of_models(any_models(10, 80));
  for (Stream& s : system.streams) {
    s.outside = *Distribution::from_atoms({{2e3, 3}, {9e3, 1}});
    s.limit = {95, 100};
  }
  Predictor predictor;
  const auto answer = predictor.predict(system, {});
  const auto run = simulate(system, {.seed = 99, .requests = 150000});
  RC_ASSERT(answer.has_value() && run.has_value());
  RC_ASSERT(answer->method == Method::kExact);
  compare(system, *answer, *run, 0.01);
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    const Estimate late = run->streams[i].late(100e3);
    RC_ASSERT(std::abs(answer->streams[i].p_late - late.value) <= 2 * late.error + 0.01);
  }
}

RC_GTEST_PROP(PredictProperty, CurvesGiveTheSamePercentiles, ()) {
  System system = system_of_models(any_models(10, 80));
  Predictor predictor;
  const auto answer = predictor.predict(system, {.curves = true});
  RC_ASSERT(answer.has_value());
  for (const StreamAnswer& a : answer->streams) {
    RC_ASSERT(std::abs(a.response.quantile_us(0.95) - a.percentile_us) < 0.02 * a.percentile_us);
    RC_ASSERT(a.response.cdf(a.response.time_us().back() * 2) > 0.999);
    RC_ASSERT(a.response.cdf(0) == 0);
  }
}

// Streams of one model share it: no swap between them, and the same answer as one stream.
TEST(Predict, StreamsOfOneModelDoNotSwap) {
  System system =
      system_of_models({{3e-6, Distribution::constant(50e3), Distribution::constant(40e3)}});
  Predictor predictor;
  const auto one = predictor.predict(system, {});
  system.streams.push_back(system.streams[0]);
  system.streams[0].rate_per_s = 1;
  system.streams[1].rate_per_s = 2;
  const auto two = predictor.predict(system, {});
  EXPECT_NEAR(one->streams[0].percentile_us, two->streams[0].percentile_us, 1);
  EXPECT_NEAR(one->streams[0].percentile_us, two->streams[1].percentile_us, 1);
  EXPECT_NEAR(two->streams[0].terms.swap_us, 0, 1e-6);
}

TEST(Predict, SlackAndLatenessAreOfTheLimit) {
  System system = system_of_models({{7e-6, Distribution::constant(100e3), {}}});
  system.streams[0].limit = {99, 500};
  Predictor predictor;
  const auto answer = predictor.predict(system, {.brackets = true});
  const StreamAnswer& a = answer->streams[0];
  EXPECT_NEAR(a.slack_us, 500e3 - a.percentile_us, 1e-6);
  EXPECT_LT(a.slack_us, 0);
  EXPECT_GT(a.p_late, 0.01);
  EXPECT_EQ(a.terms.dominant(), "queue");
  EXPECT_LT(a.percentile_error_us, 0.02 * a.percentile_us);
  const auto bounds = predictor.bounds(system);
  EXPECT_LE(bounds->streams[0].lower_us, a.percentile_us);
  EXPECT_GE(bounds->streams[0].upper_us, a.percentile_us);
}

TEST(Predict, AnUnstableLoadIsNamed) {
  System system = system_of_models({{11e-6, Distribution::constant(100e3), {}}});
  Predictor predictor;
  const auto answer = predictor.predict(system, {});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(answer.error().message.find("utilisation (1.100)"), std::string::npos);
}

}  // namespace
}  // namespace outboard::manage
