// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/lattice.h"

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace outboard::manage {

double LatticePmf::mean_steps() const {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] * static_cast<double>(first + i);
  return sum;
}

double LatticePmf::second_moment_steps2() const {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double k = static_cast<double>(first + i);
    sum += p[i] * k * k;
  }
  return sum;
}

double LatticePmf::generating(double log_z) const {
  const double z = std::exp(log_z);
  double sum = 0;
  for (std::size_t i = p.size(); i-- > 0;) sum = sum * z + p[i];
  return first == 0 ? sum : sum * std::exp(log_z * first);
}

LatticePmf on_lattice(const profile::Distribution& times, double step_us, Rounding rounding) {
  OB_CHECK(step_us > 0);
  LatticePmf pmf;
  pmf.first = static_cast<int>(std::floor(times.min_us() / step_us));
  const int last = static_cast<int>(std::ceil(times.max_us() / step_us));
  pmf.p.assign(static_cast<std::size_t>(last - pmf.first) + 2, 0.0);
  for (const profile::Atom& atom : times.atoms()) {
    const double steps = atom.time_us / step_us;
    // A time that is a multiple of the step but for rounding noise is that multiple.
    const double nearest = std::round(steps);
    const bool whole = std::abs(steps - nearest) < 1e-9 * (1 + steps);
    const double below = whole ? nearest : std::floor(steps);
    const double part = whole ? 0 : steps - below;
    const auto at = static_cast<std::size_t>(below - pmf.first);
    double upper = part;
    if (rounding == Rounding::kUp) upper = part > 0 ? 1 : 0;
    if (rounding == Rounding::kDown) upper = 0;
    pmf.p[at] += atom.probability * (1 - upper);
    pmf.p[at + 1] += atom.probability * upper;
  }
  while (pmf.p.size() > 1 && pmf.p.back() == 0) pmf.p.pop_back();
  std::size_t zeros = 0;
  while (zeros + 1 < pmf.p.size() && pmf.p[zeros] == 0) ++zeros;
  pmf.p.erase(pmf.p.begin(), pmf.p.begin() + static_cast<std::ptrdiff_t>(zeros));
  pmf.first += static_cast<int>(zeros);
  return pmf;
}

LatticeGap gap_on_lattice(double rate_per_us, double step_us, Rounding rounding) {
  const double x = rate_per_us * step_us;
  LatticeGap gap;
  gap.stay = std::exp(-x);
  const double leave = -std::expm1(-x);
  switch (rounding) {
    case Rounding::kUp:
      gap.at_zero = 0;
      break;
    case Rounding::kDown:
      gap.at_zero = leave;
      break;
    case Rounding::kMean:
      gap.at_zero = 1 - leave / x;
      break;
  }
  return gap;
}

Fourier::Fourier(std::size_t size) : size_(size), roots_(size), swaps_(size) {
  OB_CHECK(size >= 2 && (size & (size - 1)) == 0);
  for (std::size_t k = 0; k < size; ++k) {
    const double angle = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(size);
    roots_[k] = {std::cos(angle), std::sin(angle)};
  }
  for (std::size_t half = 1; half < size; half *= 2) {
    for (std::size_t k = 0; k < half; ++k) {
      twiddles_.push_back(std::conj(roots_[k * (size / (2 * half))]));
    }
  }
  for (std::size_t i = 1; i < size; ++i) {
    swaps_[i] = (swaps_[i >> 1] >> 1) | ((i & 1) != 0 ? static_cast<unsigned>(size >> 1) : 0U);
  }
}

void Fourier::forward(std::span<std::complex<double>> x) const {
  OB_CHECK(x.size() == size_);
  for (std::size_t i = 0; i < size_; ++i) {
    if (i < swaps_[i]) std::swap(x[i], x[swaps_[i]]);
  }
  // Reals by hand: std::complex's product looks for NaN on every call.
  auto* data = reinterpret_cast<double*>(x.data());
  const auto* stage = reinterpret_cast<const double*>(twiddles_.data());
  for (std::size_t half = 1; half < size_; half *= 2) {
    for (std::size_t block = 0; block < size_; block += 2 * half) {
      double* even = data + 2 * block;
      double* odd = even + 2 * half;
      for (std::size_t k = 0; k < 2 * half; k += 2) {
        const double re = odd[k] * stage[k] - odd[k + 1] * stage[k + 1];
        const double im = odd[k] * stage[k + 1] + odd[k + 1] * stage[k];
        odd[k] = even[k] - re;
        odd[k + 1] = even[k + 1] - im;
        even[k] += re;
        even[k + 1] += im;
      }
    }
    stage += 2 * half;
  }
}

}  // namespace outboard::manage
