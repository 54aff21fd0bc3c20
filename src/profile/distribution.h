// SPDX-License-Identifier: Apache-2.0
// A distribution of times: what was measured (or is supposed) of a service, a swap, a network
// delay.
//
// It is a list of atoms (a time, its probability), sorted and with distinct times; a constant has
// one, a histogram one a bin, a sample of n requests at most `max_atoms`. So every moment and
// quantile is exact for what is stored, and two of them can be added (convolved) or mixed.
// Units: microseconds, as double. Times are finite and >= 0; probabilities are > 0 and sum to 1.
// Thread-safety: an immutable value. No I/O.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"

namespace outboard::profile {

struct Atom {
  double time_us = 0;
  double probability = 0;
  bool operator==(const Atom&) const = default;
};

class Distribution {
 public:
  static constexpr std::size_t kMaxAtoms = 256;

  // The constant 0: "takes no time".
  Distribution() : Distribution(std::vector<Atom>{{0.0, 1.0}}) {}
  // REQUIRES: a finite time >= 0.
  static Distribution constant(double time_us);
  // Atoms in any order, weights of any positive sum (counts of a histogram, say): they are sorted,
  // joined where times are equal and scaled to 1. kInvalid when empty, a time is negative or not
  // finite, or a weight is; an atom of weight 0 is dropped.
  static Result<Distribution> from_atoms(std::vector<Atom> atoms);
  // Measured times in any order. More than `max_atoms` of them are put into bins of equal
  // probability, each at its own mean: the mean is kept exactly, the variance to a few parts in
  // 10^4; the largest and the smallest keep a bin of their own.
  static Result<Distribution> from_samples(std::span<const double> times_us,
                                           std::size_t max_atoms = kMaxAtoms);

  std::span<const Atom> atoms() const { return atoms_; }
  bool is_constant() const { return atoms_.size() == 1; }
  double mean_us() const { return mean_us_; }
  double second_moment_us2() const { return second_moment_us2_; }
  double variance_us2() const;
  // Squared coefficient of variation; 0 for the constant 0.
  double scv() const;
  double min_us() const { return atoms_.front().time_us; }
  double max_us() const { return atoms_.back().time_us; }
  // The smallest stored t with P(T <= t) >= probability (0..1).
  double quantile_us(double probability) const;
  double cdf(double time_us) const;  // P(T <= time)

  // REQUIRES: factor > 0 and finite; shift such that no time becomes negative.
  Distribution scaled(double factor) const;
  Distribution shifted(double shift_us) const;
  // At most `max_atoms` atoms, joined as from_samples does.
  Distribution compressed(std::size_t max_atoms = kMaxAtoms) const;

  bool operator==(const Distribution& other) const { return atoms_ == other.atoms_; }

 private:
  explicit Distribution(std::vector<Atom> atoms);

  std::vector<Atom> atoms_;
  double mean_us_ = 0;
  double second_moment_us2_ = 0;
};

// Of the sum of two independent times, compressed to `max_atoms`.
Distribution convolve(const Distribution& a, const Distribution& b,
                      std::size_t max_atoms = Distribution::kMaxAtoms);

// Of a time that is drawn from part i with probability weights[i] / sum. REQUIRES: as many weights
// as parts, all >= 0, one of them positive.
Distribution mixture(std::span<const Distribution> parts, std::span<const double> weights,
                     std::size_t max_atoms = Distribution::kMaxAtoms);

}  // namespace outboard::profile
