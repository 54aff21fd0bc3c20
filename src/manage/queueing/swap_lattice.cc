// SPDX-License-Identifier: Apache-2.0
// The distribution of the queue with swaps on a lattice; swap_queue.cc has the equations.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "manage/queueing/boundary.h"
#include "manage/queueing/swap_queue.h"

namespace outboard::manage {
namespace {

constexpr double kTail = 1e-4;     // what the lattice must reach
constexpr double kDamping = 1e-5;  // r^N: aliases by that, rounding by 1e-16 / r^N a point
constexpr std::size_t kMaxPoints = 65536;

// A model on the lattice.
struct LatticeModel {
  double share;
  LatticePmf service;
  LatticePmf swap;
};

struct LatticeKernel {
  const std::vector<LatticeModel>& models;
  LatticeGap gap;
  double step_us;

  std::size_t size() const { return models.size(); }
  double d(std::size_t j, double x) const {
    double dj, cj;
    one(j, -x * step_us, std::exp(-x * step_us), dj, cj);
    return dj;
  }
  void all(double x, double* d, double* c) const {
    const double log_z = -x * step_us, z = std::exp(log_z);
    for (std::size_t j = 0; j < models.size(); ++j) one(j, log_z, z, d[j], c[j]);
  }
  void one(std::size_t j, double log_z, double z, double& d, double& c) const {
    const double alpha = gap.at_zero * z + 1 - gap.stay - gap.at_zero;
    const double b = alpha * models[j].share * models[j].service.generating(log_z);
    const double o = models[j].swap.generating(log_z);
    d = z - gap.stay - b * (1 - o);
    c = b * o;
  }
};

struct Complex {  // std::complex without its search for NaN in every product
  double re, im;
};
inline Complex times(Complex a, Complex b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
inline Complex inverse(Complex a) {
  const double norm = 1 / (a.re * a.re + a.im * a.im);
  return {a.re * norm, -a.im * norm};
}

// The queue after rounding: what both the mean and the transform need.
struct LatticeQueue {
  std::vector<LatticeModel> models;
  LatticeGap gap;
  double step_us = 0;
  double mean_steps = 0;  // E[X], time a request takes
  double second_moment_steps2 = 0;
  std::vector<double> idle;
};

Rounding opposite(Rounding rounding) {
  if (rounding == Rounding::kUp) return Rounding::kDown;
  return rounding == Rounding::kDown ? Rounding::kUp : Rounding::kMean;
}

// How many points, and how far apart: they must reach the tail, and the shortest service must be at
// least two of them.
struct Grid {
  std::size_t points;
  double step_us;
};

Grid choose_grid(std::span<const SwapModel> models, const SwapSolver::Options& options,
                 double decay_per_us) {
  double largest = 0, smallest = std::numeric_limits<double>::infinity();
  for (const SwapModel& m : models) {
    largest = std::max(largest, m.service.max_us() + m.swap.max_us());
    smallest = std::min(smallest, m.service.min_us());
  }
  // Beyond one service P(V > t) is at most about exp(-decay t).
  const double span_us = largest - std::log(kTail) / decay_per_us;
  std::size_t points = options.points;
  if (options.step_us > 0) {
    while (points < kMaxPoints && options.step_us * static_cast<double>(points) < span_us) {
      points *= 2;
    }
    return {points, options.step_us};
  }
  const double finest_us = smallest / 2;
  while (points < kMaxPoints && span_us > finest_us * static_cast<double>(points)) points *= 2;
  return {points, std::min(span_us / static_cast<double>(points), finest_us)};
}

Result<LatticeQueue> round_to_lattice(std::span<const SwapModel> models, double step_us,
                                      Rounding rounding) {
  double rate = 0;
  for (const SwapModel& m : models) rate += m.rate_per_us;
  LatticeQueue queue;
  queue.step_us = step_us;
  queue.gap = gap_on_lattice(rate, step_us, opposite(rounding));
  for (const SwapModel& m : models) {
    const LatticeModel l{m.rate_per_us / rate, on_lattice(m.service, step_us, rounding),
                         on_lattice(m.swap, step_us, rounding)};
    if (l.service.first < 1) {
      return error(ErrorKind::kInvalid, "service time ({} us) is shorter than the step ({} us)",
                   m.service.min_us(), step_us);
    }
    const double s = l.service.mean_steps(), o = l.swap.mean_steps();
    queue.mean_steps += l.share * (s + (1 - l.share) * o);
    queue.second_moment_steps2 +=
        l.share * (l.service.second_moment_steps2() +
                   (1 - l.share) * (2 * s * o + l.swap.second_moment_steps2()));
    queue.models.push_back(l);
  }
  const double gap_steps = queue.gap.mean_steps(), stay = queue.gap.stay;
  if (!(queue.mean_steps < gap_steps)) {
    return error(
        ErrorKind::kInvalid,
        "rounded up to the step ({:.3g} us) the load is unstable ({:.4f}); take a finer one",
        step_us, queue.mean_steps / gap_steps);
  }
  queue.idle = boundary(LatticeKernel{queue.models, queue.gap, step_us}, rate,
                        (gap_steps - queue.mean_steps) * (1 - stay) / stay);
  if (queue.idle.empty()) {
    return error(ErrorKind::kInternal, "the boundary of the queue is singular");
  }
  return queue;
}

// E[V] on the lattice. V' = V + X - A + L, L the idle time that a gap leaves, is stationary in its
// square and in E[V; J = j]; L given L > 0 is geometric with `stay`, whatever was before it.
double mean_work_steps(const LatticeQueue& queue) {
  const double ea = queue.gap.mean_steps(), ex = queue.mean_steps, stay = queue.gap.stay;
  double swaps = 0, idle = 0;
  for (std::size_t j = 0; j < queue.models.size(); ++j) {
    const LatticeModel& l = queue.models[j];
    const double o = l.swap.mean_steps();
    const double work = l.share * (l.service.mean_steps() + (1 - l.share) * o - ea) +
                        stay * queue.idle[j] / (1 - stay);  // E[V; J = j] - p_j E[V]
    swaps += l.share * o * work;
    idle += queue.idle[j];
  }
  const double lost2 = stay * idle * (1 + stay) / ((1 - stay) * (1 - stay));  // E[L^2]
  return (queue.second_moment_steps2 - 2 * swaps - 2 * ex * ea + queue.gap.second_moment_steps2() -
          lost2) /
         (2 * (ea - ex));
}

// The generating function of a pmf at radius e^(i theta_m), m < count, into re and im.
void on_circle(const LatticePmf& pmf, double radius, std::span<const std::complex<double>> roots,
               std::size_t count, double* re, double* im) {
  const std::size_t mask = roots.size() - 1;
  std::fill(re, re + count, 0.0);
  std::fill(im, im + count, 0.0);
  for (std::size_t i = 0; i < pmf.p.size(); ++i) {
    if (pmf.p[i] == 0) continue;
    const std::size_t k = static_cast<std::size_t>(pmf.first) + i;
    const double weight = pmf.p[i] * std::pow(radius, static_cast<double>(k));
    std::size_t at = 0;
    for (std::size_t m = 0; m < count; ++m) {
      re[m] += weight * roots[at].real();
      im[m] += weight * roots[at].imag();
      at = (at + k) & mask;
    }
  }
}

}  // namespace

struct SwapSolver::Tables {
  std::map<std::size_t, Fourier> fourier;
  std::vector<double> service_re, service_im, swap_re, swap_im;  // models x half
  std::vector<Complex> phi;                                      // models x half
  std::vector<std::complex<double>> packed;

  const Fourier& of(std::size_t points) {
    return fourier.try_emplace(points, points).first->second;
  }
  void evaluate(const LatticeQueue& queue, const Fourier& fourier, double radius);
  void cumulate(const Fourier& fourier, double radius, std::size_t models, double* cdf);
};

SwapSolver::SwapSolver() : tables_(std::make_unique<Tables>()) {}
SwapSolver::~SwapSolver() = default;
SwapSolver::SwapSolver(SwapSolver&&) noexcept = default;
SwapSolver& SwapSolver::operator=(SwapSolver&&) noexcept = default;

// phi_j on the upper half of the circle.
void SwapSolver::Tables::evaluate(const LatticeQueue& queue, const Fourier& fourier,
                                  double radius) {
  const std::size_t k = queue.models.size(), half = fourier.size() / 2 + 1;
  for (auto* table : {&service_re, &service_im, &swap_re, &swap_im}) table->resize(k * half);
  phi.resize(k * half);
  for (std::size_t j = 0; j < k; ++j) {
    on_circle(queue.models[j].service, radius, fourier.roots(), half, &service_re[j * half],
              &service_im[j * half]);
    on_circle(queue.models[j].swap, radius, fourier.roots(), half, &swap_re[j * half],
              &swap_im[j * half]);
  }
  const double q = queue.gap.stay, at_zero = queue.gap.at_zero;
  std::vector<Complex> c(k), inv(k);
  for (std::size_t m = 0; m < half; ++m) {
    const Complex z{radius * fourier.roots()[m].real(), radius * fourier.roots()[m].imag()};
    const Complex alpha{at_zero * z.re + 1 - q - at_zero, at_zero * z.im};
    const Complex leave{q * (1 - z.re), -q * z.im};
    Complex one_minus{1, 0}, idle_sum{0, 0};
    for (std::size_t j = 0; j < k; ++j) {
      const std::size_t at = j * half + m;
      const double share = queue.models[j].share;
      const Complex b = times(alpha, {share * service_re[at], share * service_im[at]});
      c[j] = times(b, {swap_re[at], swap_im[at]});
      inv[j] = inverse({z.re - q - b.re + c[j].re, z.im - b.im + c[j].im});
      const Complex ratio = times(c[j], inv[j]);
      one_minus.re -= ratio.re;
      one_minus.im -= ratio.im;
      idle_sum.re += queue.idle[j] * inv[j].re;
      idle_sum.im += queue.idle[j] * inv[j].im;
    }
    const Complex total = times(times(leave, idle_sum), inverse(one_minus));  // -phi
    for (std::size_t j = 0; j < k; ++j) {
      const Complex cp = times(c[j], total);
      phi[j * half + m] =
          times({-cp.re - queue.idle[j] * leave.re, -cp.im - queue.idle[j] * leave.im}, inv[j]);
    }
  }
}

// From phi_j to P(V <= n, J = j), two models a transform; the sum over models comes last.
void SwapSolver::Tables::cumulate(const Fourier& fourier, double radius, std::size_t models,
                                  double* cdf) {
  const std::size_t points = fourier.size(), half = points / 2 + 1;
  packed.resize(points);
  double* sum = cdf + models * points;
  std::fill(sum, sum + points, 0.0);
  for (std::size_t j = 0; j < models; j += 2) {
    const Complex* a = &phi[j * half];
    const Complex* b = j + 1 < models ? &phi[(j + 1) * half] : nullptr;
    for (std::size_t m = 0; m < half; ++m) {
      const Complex second = b ? b[m] : Complex{0, 0};
      packed[m] = {a[m].re - second.im, a[m].im + second.re};
      if (m > 0) packed[points - m] = {a[m].re + second.im, second.re - a[m].im};
    }
    fourier.forward(packed);
    double scale = 1 / static_cast<double>(points), total_a = 0, total_b = 0;
    double* cdf_a = cdf + j * points;
    double* cdf_b = b ? cdf_a + points : nullptr;
    for (std::size_t n = 0; n < points; ++n, scale /= radius) {
      total_a += packed[n].real() * scale;
      cdf_a[n] = total_a;
      sum[n] += total_a;
      if (!cdf_b) continue;
      total_b += packed[n].imag() * scale;
      cdf_b[n] = total_b;
      sum[n] += total_b;
    }
  }
}

Result<SwapQueue> SwapSolver::solve(std::span<const SwapModel> models, const Options& options) {
  OB_CHECK_OK(check_models(models));
  SwapQueue queue;
  queue.models_.assign(models.begin(), models.end());
  queue.rounding_ = options.rounding;
  queue.utilisation_ = manage::utilisation(models);
  queue.decay_per_us_ = decay_rate_per_us(models);
  const Grid grid = choose_grid(models, options, queue.decay_per_us_);
  queue.points_ = grid.points;
  queue.step_us_ = grid.step_us;
  OB_TRY(const LatticeQueue lattice, round_to_lattice(models, grid.step_us, options.rounding));
  queue.mean_work_us_ = grid.step_us * mean_work_steps(lattice);

  const Fourier& fourier = tables_->of(grid.points);
  const double radius = std::pow(kDamping, 1.0 / static_cast<double>(grid.points));
  tables_->evaluate(lattice, fourier, radius);
  queue.cdf_.resize((models.size() + 1) * grid.points);
  tables_->cumulate(fourier, radius, models.size(), queue.cdf_.data());

  // The lattice's mass at 0 has in it what lies in the first half step beyond; the server idles
  // 1 - rho of the time.
  const double* sum = &queue.cdf_[models.size() * grid.points];
  for (std::size_t j = 0; j < models.size(); ++j) {
    queue.share_.push_back(lattice.models[j].share);
    queue.idle_.push_back(queue.cdf_[j * grid.points] * (1 - queue.utilisation_) / sum[0]);
  }
  queue.idle_.push_back(1 - queue.utilisation_);
  return queue;
}

// Rounded to the mean, a lattice point stands for the mass around it: the value there is the middle
// of its step, and lines join them. Rounded up (down) the steps themselves are the bound.
double SwapQueue::at(std::size_t row, double time_us) const {
  if (time_us < 0) return 0;
  const double* cdf = &cdf_[row * points_];
  const double steps = time_us / step_us_;
  const auto n = static_cast<std::size_t>(std::min(steps, static_cast<double>(points_)));
  if (n + 1 >= points_) return cdf[points_ - 1];
  if (rounding_ != Rounding::kMean) return cdf[n];
  const double below = n == 0 ? idle_[row] : 0.5 * (cdf[n - 1] + cdf[n]);
  const double above = 0.5 * (cdf[n] + cdf[n + 1]);
  return below + (steps - static_cast<double>(n)) * (above - below);
}

double SwapQueue::work_cdf(std::size_t model, double time_us) const { return at(model, time_us); }

double SwapQueue::work_cdf(double time_us) const { return at(models_.size(), time_us); }

double SwapQueue::response_cdf(std::size_t model, double time_us) const {
  const SwapModel& m = models_[model];
  double sum = 0;
  for (const profile::Atom& s : m.service.atoms()) {
    const double left = time_us - s.time_us;
    if (left < 0) break;
    sum += s.probability * at(model, left);
    for (const profile::Atom& o : m.swap.atoms()) {
      if (o.time_us > left) break;
      sum += s.probability * o.probability *
             (at(models_.size(), left - o.time_us) - at(model, left - o.time_us));
    }
  }
  return std::min(sum, 1.0);
}

double SwapQueue::response_quantile_us(std::size_t model, double probability) const {
  const SwapModel& m = models_[model];
  double low = 0;
  double high = m.service.max_us() + m.swap.max_us() + step_us_ * static_cast<double>(points_);
  if (response_cdf(model, high) < probability) return std::numeric_limits<double>::infinity();
  while (high - low > 1e-3 * step_us_) {
    const double middle = 0.5 * (low + high);
    (response_cdf(model, middle) >= probability ? high : low) = middle;
  }
  return high;
}

double SwapQueue::response_mean_us(std::size_t model) const {
  const SwapModel& m = models_[model];
  return mean_work_us_ + m.service.mean_us() + (1 - share_[model]) * m.swap.mean_us();
}

}  // namespace outboard::manage
