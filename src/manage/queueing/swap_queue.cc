// SPDX-License-Identifier: Apache-2.0
// M/G/1 first come first served with model swaps.
//
// The queue. Requests of model j arrive in a Poisson stream of rate lambda p_j (lambda in all). The
// device serves them in their order. A request of model j takes S_j, and O_j before it when the
// request before it was for another model. So the time a request takes depends on the one before
// it, and the workload V (time to serve all that is there) is not an M/G/1 workload; but V together
// with J, the model of the last request that came, is a Markov process, because V falls at rate 1
// while it is positive and jumps at an arrival of j by S_j if J = j, else by O_j + S_j.
//
// The equation. Let W_j(t) = P(V <= t, J = j), W their sum. In steady state as much probability
// enters {V <= t, J = j} as leaves it. It enters by work being done, at rate W_j'(t); it leaves by
// any arrival, at rate lambda W_j(t); and of the arrivals of model j (from any state) those that
// land below t put it back:
//   W_j'(t) = lambda [W_j(t) - p_j (E W_j(t - S_j) + E (W - W_j)(t - S_j - O_j))].
// An arrival sees (V, J) as time does (PASTA), so the response of a request of model j has
//   R_j(t) = E W_j(t - S_j) + E (W - W_j)(t - S_j - O_j).
// (The published mean value formula of the edge TPU, arXiv 2201.07312, replaces all of this by
// independent services of their mean.)
//
// Its boundary. W_j(0) is not known; all but one choice let the solution grow without bound. With
// transforms phi_j(x) = int e^(-xt) dW_j, b_j = E e^(-x S_j), o_j = E e^(-x O_j):
//   phi_j (x - lambda + lambda p_j b_j (1 - o_j)) + lambda p_j b_j o_j phi = x W_j(0),
// phi the sum. With d_j = lambda - x - lambda p_j b_j (1 - o_j) and c_j = lambda p_j b_j o_j:
//   phi_j = (c_j phi - x W_j(0)) / d_j,   phi (1 - sum c_j / d_j) = -x sum W_j(0) / d_j.
// phi is finite for x > 0, so sum W_j(0) / d_j vanishes where 1 - sum c_j / d_j does; boundary.h
// finds these K - 1 places. The last condition is that the server idles 1 - rho of the time.
//
// The mean. From the balance of E[V^2] and of E[V; J = j], with X_j = S_j + O_j 1{J != j}:
//   E[V] (1 - rho) = lambda/2 sum p_j E[X_j^2]
//                    - lambda sum p_j E[O_j] (p_j E[X_j] - (p_j - W_j(0)) / lambda).
//
// The lattice. For the distribution, services, swaps and gaps are rounded to multiples of a step
// (lattice.h). V seen by arrivals, V' = max(0, V + X - A), then lives on the lattice, and with z
// for e^(-x step), q = stay, alpha(z) = at_zero z + 1 - q - at_zero:
//   phi_j (z - q) + q w_j (1 - z) = alpha p_j b_j (phi_j + (phi - phi_j) o_j),
// the same shape with d_j = z - q - alpha p_j b_j (1 - o_j), c_j = alpha p_j b_j o_j and
// q (1 - z) in the place of x. It is evaluated on a circle |z| = r < 1 and its coefficients,
// P(V = n, J = j), are read off by a Fourier transform: n < N with an aliasing error below
// r^N = 1e-5 times the tail, rounding about 1e-16 / r^N (Abate & Whitt, "Numerical inversion of
// probability generating functions", 1992). No step of it can grow an error, unlike the recursion
// in t, whose K - 1 unwanted modes do.
#include "manage/queueing/swap_queue.h"

#include <algorithm>
#include <cmath>

#include "manage/queueing/boundary.h"

namespace outboard::manage {
namespace {

double total_rate(std::span<const SwapModel> models) {
  double rate = 0;
  for (const SwapModel& m : models) rate += m.rate_per_us;
  return rate;
}

// E[e^(-x T)].
double transform(const profile::Distribution& times, double x) {
  double sum = 0;
  for (const profile::Atom& a : times.atoms()) sum += a.probability * std::exp(-x * a.time_us);
  return sum;
}

struct ContinuousKernel {
  std::span<const SwapModel> models;
  double rate;

  std::size_t size() const { return models.size(); }
  double d(std::size_t j, double x) const {
    return rate - x -
           models[j].rate_per_us * transform(models[j].service, x) *
               (1 - transform(models[j].swap, x));
  }
  void all(double x, double* d, double* c) const {
    for (std::size_t j = 0; j < models.size(); ++j) {
      const double b = models[j].rate_per_us * transform(models[j].service, x);
      const double o = transform(models[j].swap, x);
      d[j] = rate - x - b * (1 - o);
      c[j] = b * o;
    }
  }
};

}  // namespace

double utilisation(std::span<const SwapModel> models) {
  const double rate = total_rate(models);
  double rho = 0;
  for (const SwapModel& m : models) {
    rho += m.rate_per_us * (m.service.mean_us() + (1 - m.rate_per_us / rate) * m.swap.mean_us());
  }
  return rho;
}

Result<double> mean_workload_us(std::span<const SwapModel> models) {
  OB_CHECK_OK(check_models(models));
  const double rate = total_rate(models), rho = utilisation(models);
  const auto idle = boundary(ContinuousKernel{models, rate}, rate, 1 - rho);
  if (idle.empty()) return error(ErrorKind::kInternal, "the boundary of the queue is singular");
  double sum = 0;
  for (std::size_t j = 0; j < models.size(); ++j) {
    const SwapModel& m = models[j];
    const double p = m.rate_per_us / rate, s = m.service.mean_us(), o = m.swap.mean_us();
    const double x2 =
        m.service.second_moment_us2() + (1 - p) * (2 * s * o + m.swap.second_moment_us2());
    sum += 0.5 * m.rate_per_us * x2 -
           m.rate_per_us * o * (p * (s + (1 - p) * o) - (p - idle[j]) / rate);
  }
  return sum / (1 - rho);
}

Result<void> check_models(std::span<const SwapModel> models) {
  if (models.empty()) return error(ErrorKind::kInvalid, "a queue needs at least one model");
  for (std::size_t j = 0; j < models.size(); ++j) {
    if (!(models[j].rate_per_us > 0) || !std::isfinite(models[j].rate_per_us)) {
      return error(ErrorKind::kInvalid, "rate ({} per s) of model {} must be positive and finite",
                   models[j].rate_per_us * 1e6, j);
    }
    if (!(models[j].service.min_us() > 0)) {
      return error(ErrorKind::kInvalid, "service time ({} us) of model {} must be positive",
                   models[j].service.min_us(), j);
    }
  }
  if (const double rho = utilisation(models); !(rho < 1)) {
    return error(ErrorKind::kInvalid,
                 "the load is unstable: utilisation ({:.4f}) must be less than 1", rho);
  }
  return {};
}

// The decay rate of P(V > t): the smallest eta > 0 with sum c_j / d_j = 1 at x = -eta.
double decay_rate_per_us(std::span<const SwapModel> models) {
  const double rate = total_rate(models);
  auto excess = [&](double eta) {
    double sum = -1;
    for (const SwapModel& m : models) {
      const double b = m.rate_per_us * transform(m.service, -eta);
      // A model alone never swaps; its swap would only drown the rest in rounding.
      const double o = models.size() > 1 ? transform(m.swap, -eta) : 1;
      sum += std::isinf(b * o) ? 1.0 : b * o / (rate + eta + b * (o - 1));
    }
    return sum;
  };
  double second = 0;
  for (const SwapModel& m : models) {
    const double p = m.rate_per_us / rate, s = m.service.mean_us(), o = m.swap.mean_us();
    second += m.rate_per_us *
              (m.service.second_moment_us2() + (1 - p) * (2 * s * o + m.swap.second_moment_us2()));
  }
  double high = (1 - utilisation(models)) / second, low = 0;
  for (int i = 0; i < 200 && excess(high) < 0; ++i) low = std::exchange(high, high * 1.5);
  if (low == 0) {  // the guess was past the root already
    for (low = high / 2; low > 1e-12 * high && excess(low) >= 0;)
      high = std::exchange(low, low / 2);
  }
  return find_root(excess, low, excess(low), high, excess(high), 1e-4 * high);
}

}  // namespace outboard::manage
