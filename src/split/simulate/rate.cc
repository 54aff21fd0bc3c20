// SPDX-License-Identifier: Apache-2.0
#include "split/simulate/rate.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace outboard::split {
namespace {

// Box-Muller on the generator's own bits, so that every platform draws the same numbers.
double gaussian(std::mt19937_64& random) {
  constexpr double kScale = 1.0 / 9007199254740992.0;  // 2^-53
  const double u = (static_cast<double>(random() >> 11) + 1) * kScale;
  const double v = static_cast<double>(random() >> 11) * kScale;
  return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
}

}  // namespace

double RateTrace::factor_at(double time_us) const {
  if (factor.empty()) return 1;
  if (period_us > 0) time_us = std::fmod(time_us, period_us);
  const auto it = std::upper_bound(start_us.begin(), start_us.end(), time_us);
  return factor[static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, it - start_us.begin() - 1))];
}

double RateTrace::end_us(double start, double size_bytes, double rate_bytes_per_s) const {
  if (rate_bytes_per_s <= 0) return start;
  const double bytes_per_us = rate_bytes_per_s / 1e6;
  if (factor.empty()) return start + size_bytes / bytes_per_us;
  double now = start;
  for (;;) {
    const double base = period_us > 0 ? std::floor(now / period_us) * period_us : 0;
    const auto next = std::upper_bound(start_us.begin(), start_us.end(), now - base);
    double until = next == start_us.end() ? std::numeric_limits<double>::infinity() : base + *next;
    if (period_us > 0) until = std::min(until, base + period_us);
    const double rate = bytes_per_us * factor_at(now);
    if (now + size_bytes / rate <= until) return now + size_bytes / rate;
    size_bytes -= rate * (until - now);
    // A step at least, where rounding would stand still.
    now = std::max(until, std::nextafter(now, std::numeric_limits<double>::infinity()));
  }
}

RateTrace gauss_markov(std::uint64_t seed, double sd, double coherence_us, double step_us,
                       double length_us, double floor) {
  std::mt19937_64 random(seed);
  RateTrace trace;
  const double keep = coherence_us > 0 ? std::exp(-step_us / coherence_us) : 0;
  double x = gaussian(random);
  for (double t = 0; t < length_us; t += step_us) {
    trace.start_us.push_back(t);
    trace.factor.push_back(std::max(floor, 1 + sd * x));
    x = keep * x + std::sqrt(1 - keep * keep) * gaussian(random);
  }
  trace.period_us = length_us;
  return trace;
}

}  // namespace outboard::split
