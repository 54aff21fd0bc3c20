// SPDX-License-Identifier: Apache-2.0
// Response times where requests share a device instead of waiting in one line, in microseconds of
// work: processor sharing with its exact mean and variance, and a screen for time-shared models.
//
// Poisson arrivals, steady state. Pure; thread-safe. Units: microseconds.
#pragma once

#include <vector>

#include "base/result.h"
#include "manage/queueing/system.h"

namespace outboard::manage {

// A response of service x is x plus an excess of gamma distribution, mixed over the atoms of the
// service.
class SharedResponse {
 public:
  struct Part {
    double probability, least_us;
    double shape, scale_us;  // of the excess; shape 0: none
  };
  explicit SharedResponse(std::vector<Part> parts) : parts_(std::move(parts)) {}
  double mean_us() const;
  double cdf(double time_us) const;

 private:
  std::vector<Part> parts_;
};

// M/G/1 processor sharing: E[T(x)] = x / (1 - rho) (Kleinrock 1967) and
// Var[T(x)] = 2 / (1 - rho)^2 int_0^x (x - u) P(W > u) du, W the wait of the same queue first come
// first served (Yashkov 1983; Ott 1984): both exact. The shape of the excess is a fit.
Result<std::vector<SharedResponse>> processor_sharing(const System& system);

// First come first served within a model, shared across the models that are busy: each model a
// queue whose services are stretched by the number of others that are busy, taken as independent
// with the busy shares b_i = rho_i (1 + sum_{j != i} b_j), slow-down included. Coarse
// (docs/queueing.md has its error): for a first look, not for a promise.
Result<std::vector<SharedResponse>> time_shared_screen(const System& system);

// P(gamma(shape) <= x), regularised. REQUIRES: shape > 0, x >= 0.
double gamma_cdf(double shape, double x);

}  // namespace outboard::manage
