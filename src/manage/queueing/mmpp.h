// SPDX-License-Identifier: Apache-2.0
// Bursty arrivals: statistics of a trace and a Markov-modulated Poisson process of two states that
// has them (Fischer & Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook",
// Performance Evaluation 18, 1993; the fit to the dispersion curve is Heffes & Lucantoni's, 1986).
//
// For rates r1, r2 and rates of leaving q1, q2 the counts have index of dispersion
//   IDC(t) = 1 + A (1 - (1 - e^(-d t)) / (d t)),  d = q1 + q2,
//   A = 2 q1 q2 (r1 - r2)^2 / (d^2 (q2 r1 + q1 r2)).
// Pure; thread-safe.
#pragma once

#include <span>

#include "profile/application.h"

namespace outboard::manage {

struct Mmpp2 {
  double rate_per_s[2] = {0, 0};   // of arrivals in a state; the first is the busier
  double leave_per_s[2] = {0, 0};  // of leaving the state; 0 and 0: Poisson at the first rate

  double share_of_first() const {
    const double sum = leave_per_s[0] + leave_per_s[1];
    return sum > 0 ? leave_per_s[1] / sum : 1.0;
  }
  double mean_rate_per_s() const {
    const double p = share_of_first();
    return p * rate_per_s[0] + (1 - p) * rate_per_s[1];
  }
  double idc(double window_s) const;
};

// Keeps the rate; the limit of the dispersion and its time constant are fitted to the points of
// `burst.idc` (least squares of logarithms over a grid of constants), or, when there are none, the
// limit is gap_scv and the constant ten mean gaps. Poisson when nothing exceeds 1.
Mmpp2 fit_mmpp2(double rate_per_s, const profile::Burstiness& burst);

// Of a trace: gaps' squared coefficient of variation, and the index of dispersion in windows of
// 0.1, 1, 10, 60 s and, as long as at least 20 windows fit, 300 s. REQUIRES: ascending, two
// different times at least.
profile::Burstiness burstiness_of(std::span<const double> arrivals_s);

}  // namespace outboard::manage
