// SPDX-License-Identifier: Apache-2.0
// A distribution of times on a lattice of equal steps, and the Fourier transform between a sequence
// on the lattice and its generating function on a circle.
//
// Rounding up gives a time that is never smaller, rounding down one that is never larger: with them
// a queue's answer is bracketed, because waiting grows with every service and shrinks with every
// gap (Lindley). Rounding to the mean puts a time between two lattice points on both, so that its
// mean stays: the error of the answer is then of second order in the step.
// Pure. Thread-safety: plain values; a Fourier object may be used by one thread at a time.
#pragma once

#include <complex>
#include <cstddef>
#include <span>
#include <vector>

#include "profile/distribution.h"

namespace outboard::manage {

enum class Rounding { kMean, kUp, kDown };

// P(T = (first + i) steps) = p[i].
struct LatticePmf {
  int first = 0;
  std::vector<double> p;

  double mean_steps() const;
  double second_moment_steps2() const;
  // sum_k P(T = k) z^k for a real z in (0, 1], given ln z.
  double generating(double log_z) const;
};

// REQUIRES: step_us > 0.
LatticePmf on_lattice(const profile::Distribution& times, double step_us, Rounding rounding);

// The gap between Poisson arrivals on the lattice, memoryless there: P(A = 0) = at_zero,
// P(A = k) = (1 - at_zero) (1 - stay) stay^(k-1). Rounded up it is the ceiling of the exponential,
// down the floor; to the mean, `at_zero` keeps the mean.
struct LatticeGap {
  double stay = 0;     // q = exp(-lambda step)
  double at_zero = 0;  // a

  double mean_steps() const { return (1 - at_zero) / (1 - stay); }
  double second_moment_steps2() const {
    return (1 - at_zero) * (1 + stay) / ((1 - stay) * (1 - stay));
  }
};
LatticeGap gap_on_lattice(double rate_per_us, double step_us, Rounding rounding);

// Discrete Fourier transforms of one size, a power of two, in place (decimation in time, radix 2).
class Fourier {
 public:
  explicit Fourier(std::size_t size);
  std::size_t size() const { return size_; }
  // exp(2 pi i k / size), k in [0, size).
  std::span<const std::complex<double>> roots() const { return roots_; }
  // x[n] <- sum_m x[m] exp(-2 pi i m n / size). REQUIRES: x.size() == size().
  void forward(std::span<std::complex<double>> x) const;

 private:
  std::size_t size_;
  std::vector<std::complex<double>> roots_;
  std::vector<std::complex<double>> twiddles_;  // of each stage, one after the other
  std::vector<unsigned> swaps_;                 // bit-reversed index
};

}  // namespace outboard::manage
