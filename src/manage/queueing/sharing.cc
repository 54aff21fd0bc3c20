// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/sharing.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "manage/queueing/mixture_queue.h"

namespace outboard::manage {
namespace {

constexpr std::size_t kAtoms = 32;

SharedResponse::Part fitted(double probability, double least_us, double excess_us,
                            double variance_us2) {
  if (!(excess_us > 0)) return {probability, least_us, 0, 0};
  const double variance = std::max(variance_us2, 1e-6 * excess_us * excess_us);
  return {probability, least_us, excess_us * excess_us / variance, variance / excess_us};
}

}  // namespace

// Series for small x, continued fraction (Lentz) for large: Press et al., Numerical Recipes, 6.2.
double gamma_cdf(double shape, double x) {
  if (x <= 0) return 0;
  const double front = std::exp(shape * std::log(x) - x - std::lgamma(shape));
  if (x < shape + 1) {
    double term = 1 / shape, sum = term;
    for (int n = 1; n < 500 && term > 1e-12 * sum; ++n) sum += term *= x / (shape + n);
    return std::min(1.0, front * sum);
  }
  double b = x + 1 - shape, c = 1e300, d = 1 / b, h = d;
  for (int i = 1; i < 500; ++i) {
    const double a = -i * (i - shape);
    b += 2;
    d = 1 / (a * d + b);
    c = b + a / c;
    const double step = d * c;
    h *= step;
    if (std::abs(step - 1) < 1e-12) break;
  }
  return std::max(0.0, 1 - front * h);
}

double SharedResponse::mean_us() const {
  double sum = 0;
  for (const Part& p : parts_) sum += p.probability * (p.least_us + p.shape * p.scale_us);
  return sum;
}

double SharedResponse::cdf(double time_us) const {
  double sum = 0;
  for (const Part& p : parts_) {
    if (time_us < p.least_us) continue;
    sum +=
        p.probability * (p.shape > 0 ? gamma_cdf(p.shape, (time_us - p.least_us) / p.scale_us) : 1);
  }
  return sum;
}

Result<std::vector<SharedResponse>> processor_sharing(const System& system) {
  std::vector<SwapModel> models;
  models.reserve(system.streams.size());
  for (const Stream& s : system.streams) {
    models.push_back({s.rate_per_s * 1e-6, s.service.compressed(kAtoms), {}});
  }
  MixtureQueue queue;
  OB_CHECK_OK(queue.solve(models));
  const double idle = 1 - queue.utilisation();
  std::vector<SharedResponse> responses;
  for (const SwapModel& m : models) {
    std::vector<SharedResponse::Part> parts;
    for (const profile::Atom& x : m.service.atoms()) {
      parts.push_back(fitted(x.probability, x.time_us, x.time_us * (1 / idle - 1),
                             2 / (idle * idle) * queue.tail_moment_us2(x.time_us)));
    }
    responses.emplace_back(std::move(parts));
  }
  return responses;
}

Result<std::vector<SharedResponse>> time_shared_screen(const System& system) {
  struct Queue {
    double load = 0, rate_per_us = 0, slow = 1, busy = 0;
    profile::Distribution service;
  };
  std::map<int, Queue> queues;
  for (const Stream& s : system.streams) {
    Queue& q = queues[s.model];
    q.rate_per_us += s.rate_per_s * 1e-6;
    q.load += s.rate_per_s * 1e-6 * s.service.mean_us();
    q.slow = s.slow_down_per_other;
    q.service = s.service.compressed(8);
  }
  for (int round = 0; round < 50; ++round) {
    double total = 0;
    for (auto& [model, q] : queues) total += q.busy;
    for (auto& [model, q] : queues) {
      const double others = total - q.busy;
      q.busy = std::min(0.97, q.load * (1 + others) * std::pow(q.slow, others));
    }
  }
  std::map<int, SharedResponse> of_model;
  for (auto& [model, q] : queues) {
    std::vector<double> count{1.0};  // P(n others are busy)
    for (auto& [other, o] : queues) {
      if (other == model) continue;
      count.push_back(0);
      for (std::size_t n = count.size() - 1; n > 0; --n) {
        count[n] = count[n] * (1 - o.busy) + count[n - 1] * o.busy;
      }
      count[0] *= 1 - o.busy;
    }
    std::vector<profile::Atom> stretched;
    for (std::size_t n = 0; n < count.size(); ++n) {
      const double factor = static_cast<double>(n + 1) * std::pow(q.slow, static_cast<double>(n));
      for (const profile::Atom& s : q.service.atoms()) {
        stretched.push_back({s.time_us * factor, s.probability * count[n]});
      }
    }
    OB_TRY(const auto service, profile::Distribution::from_atoms(std::move(stretched)));
    // A stretched queue that has no steady state is near saturation: answer as at 97 %.
    const double rate = std::min(q.rate_per_us, 0.97 / service.mean_us());
    const double wait = rate * service.second_moment_us2() / (2 * (1 - rate * service.mean_us()));
    const double mean = service.mean_us() + wait - q.service.mean_us();
    const double square = service.variance_us2() + wait * wait * 1.5;
    of_model.emplace(model, SharedResponse({fitted(1, q.service.mean_us(), mean, square)}));
  }
  std::vector<SharedResponse> responses;
  responses.reserve(system.streams.size());
  for (const Stream& s : system.streams) responses.push_back(of_model.at(s.model));
  return responses;
}

}  // namespace outboard::manage
