// SPDX-License-Identifier: Apache-2.0
#include "profile/distribution.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

namespace outboard::profile {
namespace {

Distribution from(std::vector<Atom> atoms) { return *Distribution::from_atoms(std::move(atoms)); }

TEST(Distribution, ConstantHasNoVariance) {
  const auto d = Distribution::constant(250);
  EXPECT_EQ(d.mean_us(), 250);
  EXPECT_EQ(d.scv(), 0);
  EXPECT_EQ(d.quantile_us(0.99), 250);
  EXPECT_EQ(d.cdf(249.9), 0);
  EXPECT_EQ(d.cdf(250), 1);
}

TEST(Distribution, AtomsAreSortedJoinedAndScaled) {
  const auto d = from({{20, 1}, {10, 2}, {20, 1}, {5, 0}});
  ASSERT_EQ(d.atoms().size(), 2U);
  EXPECT_EQ(d.atoms()[0], (Atom{10, 0.5}));
  EXPECT_EQ(d.atoms()[1], (Atom{20, 0.5}));
  EXPECT_EQ(d.mean_us(), 15);
  EXPECT_EQ(d.variance_us2(), 25);
  EXPECT_EQ(d.quantile_us(0.5), 10);
  EXPECT_EQ(d.quantile_us(0.51), 20);
}

TEST(Distribution, RefusesWhatIsNoDistribution) {
  EXPECT_FALSE(Distribution::from_atoms({}));
  EXPECT_FALSE(Distribution::from_atoms({{1, 0}}));
  EXPECT_FALSE(Distribution::from_atoms({{-1, 1}}));
  EXPECT_FALSE(Distribution::from_atoms({{1, -1}, {2, 3}}));
  EXPECT_FALSE(Distribution::from_atoms({{std::nan(""), 1}}));
  EXPECT_FALSE(Distribution::from_atoms({{1, INFINITY}}));
  EXPECT_NE(Distribution::from_atoms({{-1, 1}}).error().message.find("(-1 us)"), std::string::npos);
}

RC_GTEST_PROP(DistributionProperty, CompressionKeepsMeanRangeAndMass, ()) {
  const auto raw = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 1000000));
  RC_PRE(!raw.empty());
  const std::vector<double> sample(raw.begin(), raw.end());
  const std::size_t max_atoms = *rc::gen::inRange<std::size_t>(3, 40);
  const auto all = *Distribution::from_samples(sample, sample.size() + 1);
  const auto few = all.compressed(max_atoms);
  RC_ASSERT(few.atoms().size() <= max_atoms + 1);
  RC_ASSERT(std::abs(few.mean_us() - all.mean_us()) <= 1e-9 * (1 + all.mean_us()));
  RC_ASSERT(few.min_us() == all.min_us());
  RC_ASSERT(few.max_us() == all.max_us());
  RC_ASSERT(few.variance_us2() <= all.variance_us2() * (1 + 1e-9) + 1e-6);
  double mass = 0;
  for (const Atom& a : few.atoms()) mass += a.probability;
  RC_ASSERT(std::abs(mass - 1) < 1e-9);
}

RC_GTEST_PROP(DistributionProperty, SumsAddMeansAndVariances, ()) {
  const auto draw = [] {
    std::vector<Atom> atoms;
    for (int i = *rc::gen::inRange(1, 8); i > 0; --i) {
      atoms.push_back({static_cast<double>(*rc::gen::inRange(0, 100000)),
                       static_cast<double>(*rc::gen::inRange(1, 9))});
    }
    return from(std::move(atoms));
  };
  const auto a = draw(), b = draw();
  const auto sum = convolve(a, b);
  const double tolerance = 1e-9 * (1 + a.max_us() * a.max_us() + b.max_us() * b.max_us());
  RC_ASSERT(std::abs(sum.mean_us() - a.mean_us() - b.mean_us()) <= tolerance);
  RC_ASSERT(std::abs(sum.variance_us2() - a.variance_us2() - b.variance_us2()) <= tolerance);
  const std::vector<Distribution> parts{a, b};
  const std::vector<double> weights{1, 3};
  RC_ASSERT(std::abs(mixture(parts, weights).mean_us() -
                     (0.25 * a.mean_us() + 0.75 * b.mean_us())) <= tolerance);
}

}  // namespace
}  // namespace outboard::profile
