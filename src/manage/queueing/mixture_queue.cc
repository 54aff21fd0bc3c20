// SPDX-License-Identifier: Apache-2.0
// On the lattice of lattice.h, with G(n) = P(V + X <= n), P(V' <= n) obeys
//   W(n) - q W(n+1) = a G(n) + (1 - q - a) G(n+1),   G(n) = sum_k P(X = k) W(n - k),
// a forward recursion whose only other mode is the solution itself, so rounding does not grow. As X
// is at least `block` steps, that many of G are known at once.
#include "manage/queueing/mixture_queue.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "manage/queueing/root.h"

namespace outboard::manage {
namespace {

constexpr std::size_t kBlock = 4;
constexpr double kTail = 1e-3;

struct Tap {
  std::size_t steps;
  double weight;
};

// P(X = k), by accumulation: many atoms share a step.
void add(const profile::Distribution& times, double shift_us, double weight, double step_us,
         std::vector<double>& pmf) {
  for (const profile::Atom& atom : times.atoms()) {
    const double steps = (atom.time_us + shift_us) / step_us;
    const auto below = static_cast<std::size_t>(steps);
    const double part = steps - static_cast<double>(below);
    if (pmf.size() < below + 2) pmf.resize(below + 2, 0.0);
    pmf[below] += weight * atom.probability * (1 - part);
    pmf[below + 1] += weight * atom.probability * part;
  }
}

double exponential_moment(const profile::Distribution& times, double eta) {
  double sum = 0;
  for (const profile::Atom& a : times.atoms()) sum += a.probability * std::exp(eta * a.time_us);
  return sum;
}

// eta > 0 with lambda (E e^(eta X) - 1) = eta, near enough to choose a step. A few atoms will do,
// the largest among them.
double decay(std::span<const SwapModel> models, double rate, double rho, double second) {
  constexpr std::size_t kAtoms = 8;
  std::vector<profile::Distribution> service, swap;
  service.reserve(models.size());
  swap.reserve(models.size());
  for (const SwapModel& m : models) {
    service.push_back(m.service.compressed(kAtoms));
    swap.push_back(m.swap.compressed(kAtoms));
  }
  auto excess = [&](double eta) {
    double sum = -(rate + eta);
    for (std::size_t j = 0; j < models.size(); ++j) {
      const double p = models[j].rate_per_us / rate;
      sum += models[j].rate_per_us * exponential_moment(service[j], eta) *
             (p + (1 - p) * exponential_moment(swap[j], eta));
    }
    return sum;
  };
  double low = 0, high = 2 * (1 - rho) / second;  // the root of the series cut at eta^2
  for (int i = 0; i < 100 && excess(high) < 0; ++i) low = std::exchange(high, 1.5 * high);
  for (int i = 0; i < 6; ++i) {
    const double middle = 0.5 * (low + high);
    (excess(middle) < 0 ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

}  // namespace

Result<void> MixtureQueue::solve(std::span<const SwapModel> models, std::size_t points) {
  OB_CHECK_OK(check_models(models));
  models_.assign(models.begin(), models.end());
  share_.clear();
  double rate = 0, second = 0, largest_us = 0;
  double smallest_us = std::numeric_limits<double>::infinity();
  for (const SwapModel& m : models) rate += m.rate_per_us;
  for (const SwapModel& m : models) {
    const double p = m.rate_per_us / rate;
    share_.push_back(p);
    second += m.rate_per_us *
              (m.service.second_moment_us2() +
               (1 - p) * (2 * m.service.mean_us() * m.swap.mean_us() + m.swap.second_moment_us2()));
    largest_us = std::max(largest_us, m.service.max_us() + m.swap.max_us());
    smallest_us = std::min(smallest_us, m.service.min_us());
  }
  utilisation_ = manage::utilisation(models);
  mean_work_us_ = second / (2 * (1 - utilisation_));
  decay_per_us_ = decay(models, rate, utilisation_, second);
  const double span_us = largest_us - std::log(kTail) / decay_per_us_;
  const double finest_us = smallest_us / (kBlock + 1);
  while (points < 16384 && span_us > finest_us * static_cast<double>(points)) points *= 2;
  points_ = points;
  step_us_ = std::min(span_us / static_cast<double>(points), finest_us);

  std::vector<double> pmf;
  double mean_steps = 0;
  for (std::size_t j = 0; j < models.size(); ++j) {
    add(models[j].service, 0, share_[j] * share_[j], step_us_, pmf);
    for (const profile::Atom& o : models[j].swap.atoms()) {
      add(models[j].service, o.time_us, share_[j] * (1 - share_[j]) * o.probability, step_us_, pmf);
    }
  }
  std::vector<Tap> taps;
  for (std::size_t k = 0; k < pmf.size(); ++k) {
    mean_steps += pmf[k] * static_cast<double>(k);
    if (pmf[k] > 0) taps.push_back({k, pmf[k]});
  }
  const LatticeGap gap = gap_on_lattice(rate, step_us_, Rounding::kMean);
  const double q = gap.stay, a = gap.at_zero, b = 1 - q - a;
  padding_ = pmf.size() + kBlock;
  padded_.assign(padding_ + points + kBlock, 0.0);
  double* w = padded_.data() + padding_;
  w[0] = (gap.mean_steps() - mean_steps) * (1 - q) / q;
  double g = 0;  // G(n)
  const double over_q = 1 / q;
  for (std::size_t n = 0; n + 1 < points; n += kBlock) {
    double ahead[kBlock] = {};  // G(n + 1) ...
    for (const Tap& tap : taps) {
      const double* from = w + n + 1 - tap.steps;
      for (std::size_t i = 0; i < kBlock; ++i) ahead[i] += tap.weight * from[i];
    }
    for (std::size_t i = 0; i < kBlock; ++i) {
      w[n + i + 1] = (w[n + i] - a * g - b * ahead[i]) * over_q;
      g = ahead[i];
    }
  }
  return {};
}

double MixtureQueue::work_cdf(double time_us) const {
  if (time_us < 0) return 0;
  const auto w = lattice();
  const double steps = time_us / step_us_;
  const auto n = static_cast<std::size_t>(std::min(steps, static_cast<double>(points_)));
  if (n + 1 >= points_) {
    return 1 -
           (1 - w[points_ - 1]) *
               std::exp(-decay_per_us_ * (time_us - step_us_ * static_cast<double>(points_ - 1)));
  }
  const double below = n == 0 ? 1 - utilisation_ : 0.5 * (w[n - 1] + w[n]);
  const double above = 0.5 * (w[n] + w[n + 1]);
  return below + (steps - static_cast<double>(n)) * (above - below);
}

double MixtureQueue::response_cdf(std::size_t model, double time_us) const {
  const SwapModel& m = models_[model];
  double sum = 0;
  for (const profile::Atom& s : m.service.atoms()) {
    const double left = time_us - s.time_us;
    if (left < 0) break;
    sum += s.probability * share_[model] * work_cdf(left);
    for (const profile::Atom& o : m.swap.atoms()) {
      if (o.time_us > left) break;
      sum += s.probability * (1 - share_[model]) * o.probability * work_cdf(left - o.time_us);
    }
  }
  return std::min(sum, 1.0);
}

double MixtureQueue::response_quantile_us(std::size_t model, double probability) const {
  double low = 0, high = models_[model].service.max_us() + models_[model].swap.max_us();
  for (int i = 0; i < 60 && response_cdf(model, high) < probability; ++i) {
    low = std::exchange(high, 2 * high);
  }
  while (high - low > 1e-3 * step_us_) {
    const double middle = 0.5 * (low + high);
    (response_cdf(model, middle) >= probability ? high : low) = middle;
  }
  return high;
}

double MixtureQueue::response_mean_us(std::size_t model) const {
  const SwapModel& m = models_[model];
  return mean_work_us_ + m.service.mean_us() + (1 - share_[model]) * m.swap.mean_us();
}

double MixtureQueue::tail_moment_us2(double time_us) const {
  // The trapezium on P(W > t) times (x - t), to the lattice's step.
  const int steps = std::max(16, static_cast<int>(time_us / step_us_) + 1);
  const double width = time_us / steps;
  double sum = 0.5 * time_us * utilisation_;
  for (int i = 1; i < steps; ++i) sum += (time_us - width * i) * (1 - work_cdf(width * i));
  return sum * width;
}

}  // namespace outboard::manage
