// SPDX-License-Identifier: Apache-2.0
#include "profile/distribution.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace outboard::profile {
namespace {

// Sorts, joins equal times and scales the weights to a sum of 1.
std::vector<Atom> normalised(std::vector<Atom> atoms) {
  std::erase_if(atoms, [](const Atom& a) { return a.probability <= 0; });
  std::sort(atoms.begin(), atoms.end(),
            [](const Atom& a, const Atom& b) { return a.time_us < b.time_us; });
  double total = 0;
  std::size_t kept = 0;
  for (const Atom& atom : atoms) {
    total += atom.probability;
    if (kept > 0 && atoms[kept - 1].time_us == atom.time_us) {
      atoms[kept - 1].probability += atom.probability;
    } else {
      atoms[kept++] = atom;
    }
  }
  atoms.resize(kept);
  for (Atom& atom : atoms) atom.probability /= total;
  return atoms;
}

// Joins sorted atoms into at most `max_atoms` bins of about equal probability, each at its mean.
// The first and the last atom stay as they are, so the range is kept.
std::vector<Atom> joined(const std::vector<Atom>& atoms, std::size_t max_atoms) {
  if (atoms.size() <= max_atoms || max_atoms < 3) {
    if (atoms.size() <= max_atoms) return atoms;
    double mean_us = 0;
    for (const Atom& a : atoms) mean_us += a.probability * a.time_us;
    return {{mean_us, 1.0}};
  }
  const double inner = 1.0 - atoms.front().probability - atoms.back().probability;
  const double bin = inner / static_cast<double>(max_atoms - 2);
  std::vector<Atom> result{atoms.front()};
  double weight = 0, moment = 0, seen = 0;
  std::size_t bins = 1;
  for (std::size_t i = 1; i + 1 < atoms.size(); ++i) {
    weight += atoms[i].probability;
    moment += atoms[i].probability * atoms[i].time_us;
    seen += atoms[i].probability;
    if (seen >= static_cast<double>(bins) * bin - 1e-12 || i + 2 == atoms.size()) {
      result.push_back({moment / weight, weight});
      weight = moment = 0;
      bins = static_cast<std::size_t>(seen / bin + 1e-9) + 1;
    }
  }
  result.push_back(atoms.back());
  return result;
}

}  // namespace

Distribution::Distribution(std::vector<Atom> atoms) : atoms_(std::move(atoms)) {
  for (const Atom& a : atoms_) {
    mean_us_ += a.probability * a.time_us;
    second_moment_us2_ += a.probability * a.time_us * a.time_us;
  }
}

Distribution Distribution::constant(double time_us) {
  OB_CHECK(std::isfinite(time_us) && time_us >= 0);
  return Distribution({{time_us, 1.0}});
}

Result<Distribution> Distribution::from_atoms(std::vector<Atom> atoms) {
  double total = 0;
  for (const Atom& a : atoms) {
    if (!std::isfinite(a.time_us) || a.time_us < 0) {
      return error(ErrorKind::kInvalid, "time ({} us) of an atom must be finite and not negative",
                   a.time_us);
    }
    if (!std::isfinite(a.probability) || a.probability < 0) {
      return error(ErrorKind::kInvalid, "weight ({}) of an atom must be finite and not negative",
                   a.probability);
    }
    total += a.probability;
  }
  if (!(total > 0) || !std::isfinite(total)) {
    return error(ErrorKind::kInvalid, "weights of the atoms sum to ({}); expected a positive sum",
                 total);
  }
  return Distribution(normalised(std::move(atoms)));
}

Result<Distribution> Distribution::from_samples(std::span<const double> times_us,
                                                std::size_t max_atoms) {
  std::vector<Atom> atoms;
  atoms.reserve(times_us.size());
  for (double t : times_us) atoms.push_back({t, 1.0});
  OB_TRY(Distribution all, from_atoms(std::move(atoms)));
  return all.compressed(max_atoms);
}

double Distribution::variance_us2() const {
  double sum = 0;
  for (const Atom& a : atoms_) {
    sum += a.probability * (a.time_us - mean_us_) * (a.time_us - mean_us_);
  }
  return sum;
}

double Distribution::scv() const {
  return mean_us_ > 0 ? variance_us2() / (mean_us_ * mean_us_) : 0.0;
}

double Distribution::quantile_us(double probability) const {
  double sum = 0;
  for (const Atom& a : atoms_) {
    sum += a.probability;
    if (sum >= probability - 1e-12) return a.time_us;
  }
  return max_us();
}

double Distribution::cdf(double time_us) const {
  double sum = 0;
  for (const Atom& a : atoms_) {
    if (a.time_us > time_us) return sum;
    sum += a.probability;
  }
  return 1.0;
}

Distribution Distribution::scaled(double factor) const {
  OB_CHECK(std::isfinite(factor) && factor > 0);
  std::vector<Atom> atoms = atoms_;
  for (Atom& a : atoms) a.time_us *= factor;
  return Distribution(std::move(atoms));
}

Distribution Distribution::shifted(double shift_us) const {
  OB_CHECK(std::isfinite(shift_us) && min_us() + shift_us >= 0);
  std::vector<Atom> atoms = atoms_;
  for (Atom& a : atoms) a.time_us += shift_us;
  return Distribution(std::move(atoms));
}

Distribution Distribution::compressed(std::size_t max_atoms) const {
  return Distribution(joined(atoms_, max_atoms));
}

Distribution convolve(const Distribution& a, const Distribution& b, std::size_t max_atoms) {
  if (a.is_constant()) return b.shifted(a.min_us()).compressed(max_atoms);
  if (b.is_constant()) return a.shifted(b.min_us()).compressed(max_atoms);
  std::vector<Atom> atoms;
  atoms.reserve(a.atoms().size() * b.atoms().size());
  for (const Atom& x : a.atoms()) {
    for (const Atom& y : b.atoms()) {
      atoms.push_back({x.time_us + y.time_us, x.probability * y.probability});
    }
  }
  auto sum = Distribution::from_atoms(std::move(atoms));
  OB_CHECK(sum.has_value());
  return sum->compressed(max_atoms);
}

Distribution mixture(std::span<const Distribution> parts, std::span<const double> weights,
                     std::size_t max_atoms) {
  OB_CHECK(parts.size() == weights.size());
  std::vector<Atom> atoms;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    for (const Atom& a : parts[i].atoms()) {
      atoms.push_back({a.time_us, a.probability * weights[i]});
    }
  }
  auto mixed = Distribution::from_atoms(std::move(atoms));
  OB_CHECK(mixed.has_value());
  return mixed->compressed(max_atoms);
}

}  // namespace outboard::profile
