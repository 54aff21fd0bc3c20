// SPDX-License-Identifier: Apache-2.0
#include "profile/link.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace outboard::profile {
namespace {

constexpr std::uint64_t kSizes[] = {0, 1024, 4096, 16384, 65536};

std::vector<Echo> echoes_of(const Link& link, int repetitions, double late_share = 0) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<Echo> echoes;
  for (const std::uint64_t size : kSizes) {
    for (int i = 0; i < repetitions; ++i) {
      double time = 2 * transfer_us(link, size);
      if (uniform(random) < late_share) time += 50'000 * uniform(random);
      echoes.push_back({size, time});
    }
  }
  return echoes;
}

RC_GTEST_PROP(FitEchoes, FindsTheLinkThatMadeThem, ()) {
  const Link link{
      .delay_us = static_cast<double>(*rc::gen::inRange(0, 100'000)),
      .rate_bytes_per_s = static_cast<double>(*rc::gen::inRange(10'000, 1'000'000'000))};
  const auto fitted = fit_echoes(echoes_of(link, 1));
  RC_ASSERT(fitted.has_value());
  RC_ASSERT(std::abs(fitted->delay_us - link.delay_us) <= 1e-6 * (1 + link.delay_us));
  RC_ASSERT(std::abs(fitted->rate_bytes_per_s / link.rate_bytes_per_s - 1) < 1e-4);
}

TEST(FitEchoes, AThirdOfLateEchoesDoesNotMoveIt) {
  const Link link{.delay_us = 500, .rate_bytes_per_s = 12.5e6};
  const auto fitted = fit_echoes(echoes_of(link, 31, 0.33));
  ASSERT_TRUE(fitted.has_value());
  EXPECT_NEAR(500, fitted->delay_us, 1);
  EXPECT_NEAR(12.5e6, fitted->rate_bytes_per_s, 12.5e4);
}

TEST(FitEchoes, ALinkTooFastToBeFeltHasNoRate) {
  std::vector<Echo> echoes;
  for (const std::uint64_t size : kSizes) echoes.push_back({size, 30});
  const auto fitted = fit_echoes(echoes);
  ASSERT_TRUE(fitted.has_value());
  EXPECT_DOUBLE_EQ(15, fitted->delay_us);
  EXPECT_DOUBLE_EQ(0, fitted->rate_bytes_per_s);
  EXPECT_DOUBLE_EQ(15, transfer_us(*fitted, 1u << 20));
}

TEST(FitEchoes, RefusesOneSizeAndTimesThatAreNone) {
  EXPECT_EQ(ErrorKind::kInvalid, fit_echoes({}).error().kind);
  const std::vector<Echo> one_size{{100, 5}, {100, 6}};
  EXPECT_EQ(ErrorKind::kInvalid, fit_echoes(one_size).error().kind);
  const std::vector<Echo> no_time{{0, 1}, {8, std::numeric_limits<double>::quiet_NaN()}};
  EXPECT_EQ(ErrorKind::kInvalid, fit_echoes(no_time).error().kind);
}

TEST(MedianRate, IgnoresWhatHasNoDuration) {
  const std::vector<Transfer> transfers{
      {1'000'000, 10'000}, {1'000'000, 20'000}, {1'000'000, 1'000'000}, {0, 5}, {5, 0}};
  EXPECT_DOUBLE_EQ(50e6, median_rate_bytes_per_s(transfers));
  EXPECT_DOUBLE_EQ(0, median_rate_bytes_per_s({}));
}

}  // namespace
}  // namespace outboard::profile
