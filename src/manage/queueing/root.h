// SPDX-License-Identifier: Apache-2.0
// A root of a continuous function in a bracket. Chandrupatla, "A new hybrid quadratic/bisection
// algorithm for finding the zero of a nonlinear function without using derivatives", Advances in
// Engineering Software 28 (1997): inverse quadratic steps where they are safe, else bisection.
// Pure; thread-safe.
#pragma once

#include <cmath>
#include <utility>

namespace outboard::manage {

// REQUIRES: f(a) = fa and f(b) = fb have opposite signs (or one is 0). The answer is within
// `tolerance` (absolute) of a change of sign.
template <typename F>
double find_root(F&& f, double a, double fa, double b, double fb, double tolerance) {
  if (fa == 0) return a;
  if (fb == 0) return b;
  double c = a, fc = fa, t = 0.5;
  for (int i = 0; i < 200; ++i) {
    const double x = a + t * (b - a);
    const double fx = f(x);
    if (std::signbit(fx) == std::signbit(fa)) {
      c = std::exchange(a, x);
      fc = std::exchange(fa, fx);
    } else {
      c = std::exchange(b, std::exchange(a, x));
      fc = std::exchange(fb, std::exchange(fa, fx));
    }
    if (fa == 0) return a;
    const double limit = 0.5 * tolerance / std::abs(b - a);
    if (limit >= 0.5) break;
    const double xi = (a - b) / (c - b), phi = (fa - fb) / (fc - fb);
    if (phi * phi < xi && (1 - phi) * (1 - phi) < 1 - xi) {
      t = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb);
      t = std::min(std::max(t, limit), 1 - limit);
    } else {
      t = 0.5;
    }
  }
  return std::abs(fa) < std::abs(fb) ? a : b;
}

}  // namespace outboard::manage
