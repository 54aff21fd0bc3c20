// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/swap_queue.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "manage/queueing/mixture_queue.h"
#include "manage/queueing/swap_bounds.h"
#include "tests/manage/systems.h"

namespace outboard::manage {
namespace {

using profile::Distribution;

SwapModel model(double rate_per_s, double service_ms, double swap_ms = 0) {
  return {rate_per_s * 1e-6, Distribution::constant(service_ms * 1e3),
          Distribution::constant(swap_ms * 1e3)};
}

// One model has no swaps: Pollaczek-Khinchine.
TEST(SwapQueue, OneModelIsPollaczekKhinchine) {
  const std::vector<SwapModel> models{model(7, 100, 40)};
  const double rho = 0.7, expected = 7e-6 * 1e10 / (2 * (1 - rho));
  EXPECT_NEAR(*mean_workload_us(models), expected, 1e-6 * expected);
  SwapSolver solver;
  EXPECT_NEAR(solver.solve(models)->mean_work_us(), expected, 5e-4 * expected);
}

// M/D/1 has a closed form (Erlang 1909): P(V <= t) = (1 - rho) sum_k e^(l (t - kD)) (-l (t-kD))^k /
// k!
TEST(SwapQueue, OneConstantModelIsErlangs) {
  const double lambda = 7e-6, service = 1e5;
  SwapSolver solver;
  const auto queue = solver.solve(std::vector<SwapModel>{model(7, 100)});
  for (const double t : {0.0, 3e4, 1.5e5, 4e5, 9e5}) {
    double sum = 0;
    for (int k = 0; k <= static_cast<int>(t / service); ++k) {
      const double x = lambda * (t - k * service);
      sum += std::exp(x + k * std::log(x > 0 ? x : 1) - std::lgamma(k + 1.0)) *
             (k % 2 == 1 ? -1 : 1) * (x > 0 || k == 0 ? 1 : 0);
    }
    EXPECT_NEAR(queue->work_cdf(t), (1 - 0.7) * sum, 2e-4) << t;
  }
}

TEST(SwapQueue, RefusesBadAndUnstableLoads) {
  SwapSolver solver;
  EXPECT_FALSE(solver.solve({}));
  EXPECT_FALSE(solver.solve(std::vector<SwapModel>{model(-1, 10)}));
  EXPECT_FALSE(solver.solve(std::vector<SwapModel>{model(1, 0)}));
  const auto unstable = solver.solve(std::vector<SwapModel>{model(6, 100, 0), model(3, 100, 50)});
  ASSERT_FALSE(unstable);
  EXPECT_NE(unstable.error().message.find("(1.0000)"), std::string::npos)
      << unstable.error().message;
}

// Without swaps, and for equal models, the screen is exact; so the two, which share no code but the
// rounding, must agree.
RC_GTEST_PROP(SwapQueueProperty, WithoutSwapsTheScreenAgrees, ()) {
  auto models = any_models(5, 90);
  for (SwapModel& m : models) m.swap = Distribution();
  MixtureQueue mixture;
  RC_ASSERT(mixture.solve(models, 2048).has_value());
  SwapSolver solver;
  const auto queue = solver.solve(models, {2048, Rounding::kMean, 0});
  RC_ASSERT(queue.has_value());
  RC_ASSERT(std::abs(queue->mean_work_us() - mixture.mean_work_us()) <
            2e-3 * mixture.mean_work_us() + 1);
  for (std::size_t j = 0; j < models.size(); ++j) {
    const double a = queue->response_quantile_us(j, 0.95);
    RC_ASSERT(std::abs(a - mixture.response_quantile_us(j, 0.95)) < 0.01 * a);
  }
}

RC_GTEST_PROP(SwapQueueProperty, IsADistributionAndTheBracketsHoldIt, ()) {
  const auto models = any_models(5, 85);
  SwapSolver solver;
  const auto queue = solver.solve(models);
  RC_ASSERT(queue.has_value());
  const auto up = solver.solve(models, {8192, Rounding::kUp, 0});
  const auto down = solver.solve(models, {8192, Rounding::kDown, 0});
  RC_ASSERT(up.has_value() && down.has_value());
  const double exact = *mean_workload_us(models);
  RC_ASSERT(std::abs(queue->mean_work_us() - exact) < 5e-3 * exact + 1);
  RC_ASSERT(down->mean_work_us() <= exact * (1 + 1e-6) && exact <= up->mean_work_us() * (1 + 1e-6));
  for (const SwapQueue* q : {&*queue, &*up, &*down}) {
    const double end_us = q->step_us() * static_cast<double>(q->points());
    RC_ASSERT(q->work_cdf(end_us) > 0.999 && q->work_cdf(end_us) < 1 + 1e-6);
    double idle = 0;
    for (std::size_t j = 0; j < models.size(); ++j) idle += q->idle(j);
    RC_ASSERT(std::abs(idle - (1 - q->utilisation())) < 1e-6);
  }
  for (std::size_t j = 0; j < models.size(); ++j) {
    for (const double p : {0.5, 0.95, 0.99}) {
      const double t = queue->response_quantile_us(j, p);
      RC_ASSERT(t <= up->response_quantile_us(j, p) + 2 * queue->step_us());
      RC_ASSERT(t >= down->response_quantile_us(j, p) - 2 * queue->step_us());
    }
  }
}

RC_GTEST_PROP(SwapQueueProperty, BoundsHoldTheExactPercentile, ()) {
  const auto models = any_models(5, 95);
  SwapSolver solver;
  const auto queue = solver.solve(models, {2048, Rounding::kMean, 0});
  const auto bounds = SwapBounds::of(models);
  RC_ASSERT(queue.has_value() && bounds.has_value());
  for (std::size_t j = 0; j < models.size(); ++j) {
    for (const double p : {0.5, 0.95, 0.99}) {
      const double t = queue->response_quantile_us(j, p);
      RC_ASSERT(bounds->lower_us(j, p) <= t * 1.005 + queue->step_us());
      RC_ASSERT(t <= bounds->upper_us(j, p) * 1.005 + queue->step_us());
    }
  }
}

}  // namespace
}  // namespace outboard::manage
