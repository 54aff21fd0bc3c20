// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/mmpp.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace outboard::manage {
namespace {

// 1 - (1 - e^(-x)) / x: how much of the limit of the dispersion a window of x time constants shows.
double shown(double x) { return x < 1e-6 ? x / 2 : 1 + std::expm1(-x) / x; }

}  // namespace

double Mmpp2::idc(double window_s) const {
  const double d = leave_per_s[0] + leave_per_s[1];
  if (d <= 0) return 1;
  const double difference = rate_per_s[0] - rate_per_s[1];
  const double limit = 2 * leave_per_s[0] * leave_per_s[1] * difference * difference /
                       (d * d * d * mean_rate_per_s());
  return 1 + limit * shown(d * window_s);
}

Mmpp2 fit_mmpp2(double rate_per_s, const profile::Burstiness& burst) {
  const Mmpp2 poisson{{rate_per_s, rate_per_s}, {0, 0}};
  double excess = std::max(0.0, burst.gap_scv - 1), constant_s = 10 / rate_per_s;
  if (!burst.idc.empty()) {
    double best = HUGE_VAL;
    double tau = 0.1 / rate_per_s;
    while ((tau *= 1.25) < 1e5 / rate_per_s + 1e4) {
      // For a given constant the best limit is the geometric mean of what each point asks for.
      double sum = 0, error = 0;
      int used = 0;
      for (const auto& point : burst.idc) {
        if (point.value <= 1) continue;
        sum += std::log((point.value - 1) / shown(point.window_s / tau));
        ++used;
      }
      if (used == 0) return poisson;
      const double limit = std::exp(sum / used);
      for (const auto& point : burst.idc) {
        const double here = std::log(std::max(point.value, 1e-3)) -
                            std::log(1 + limit * shown(point.window_s / tau));
        error += here * here;
      }
      if (error < best) best = error, excess = limit, constant_s = tau;
    }
  }
  if (excess <= 1e-9) return poisson;
  // Two equally likely states give excess = 2 rate delta^2 tau_of_d with rates rate (1 +- delta);
  // where that needs delta > 1 the busy state gets rarer instead and the quiet one is silent.
  const double d = 1 / constant_s;
  const double delta2 = excess * d / (2 * rate_per_s);
  if (delta2 <= 1) {
    const double delta = std::sqrt(delta2);
    return {{rate_per_s * (1 + delta), rate_per_s * (1 - delta)}, {d / 2, d / 2}};
  }
  // On-off: share p busy at rate / p; excess = 2 (1 - p) / p rate / d.
  const double p = 1 / (1 + delta2);
  return {{rate_per_s / p, 0}, {d * (1 - p), d * p}};
}

profile::Burstiness burstiness_of(std::span<const double> arrivals_s) {
  profile::Burstiness burst;
  const std::size_t gaps = arrivals_s.size() - 1;
  const double length_s = arrivals_s.back() - arrivals_s.front();
  const double mean = length_s / static_cast<double>(gaps);
  double square = 0;
  for (std::size_t i = 0; i < gaps; ++i) {
    const double gap = arrivals_s[i + 1] - arrivals_s[i];
    square += (gap - mean) * (gap - mean);
  }
  burst.gap_scv = square / static_cast<double>(gaps) / (mean * mean);
  for (const double window_s : {0.1, 1.0, 10.0, 60.0, 300.0}) {
    const auto windows = static_cast<std::size_t>(length_s / window_s);
    if (windows < 20) break;
    std::vector<double> counts(windows, 0.0);
    for (const double t : arrivals_s) {
      const auto at = static_cast<std::size_t>((t - arrivals_s.front()) / window_s);
      if (at < windows) counts[at] += 1;
    }
    double sum = 0, squares = 0;
    for (const double count : counts) sum += count, squares += count * count;
    const double n = static_cast<double>(windows), average = sum / n;
    burst.idc.push_back({window_s, (squares / n - average * average) / average * n / (n - 1)});
  }
  return burst;
}

}  // namespace outboard::manage
