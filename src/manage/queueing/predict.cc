// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/predict.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "manage/queueing/mixture_queue.h"
#include "manage/queueing/sharing.h"
#include "manage/queueing/swap_bounds.h"
#include "manage/queueing/swap_queue.h"
#include "manage/queueing/trace.h"
#include "manage/simulate/simulate.h"

namespace outboard::manage {
namespace {

using profile::Discipline;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kBracketPoints = 16384;
// Enough atoms for a response's shape; the mean is kept by compression.
constexpr std::size_t kServiceAtoms = 32;
constexpr std::size_t kOutsideAtoms = 16;

double probability_of(const Stream& stream) { return stream.limit.percentile / 100; }

bool poisson(const System& system) {
  return std::all_of(system.streams.begin(), system.streams.end(), [](const Stream& s) {
    return s.arrivals_s.empty() && s.burstiness == profile::Burstiness{};
  });
}

bool all_traces(const System& system) {
  return std::all_of(system.streams.begin(), system.streams.end(),
                     [](const Stream& s) { return !s.arrivals_s.empty(); });
}

// The models of a system, streams of one model added up; `of[i]` is the model of stream i.
struct Models {
  std::vector<SwapModel> models;
  std::vector<std::size_t> of;
};

Models models_of(const System& system) {
  Models result;
  std::vector<int> numbers;
  for (const Stream& s : system.streams) {
    const auto at = static_cast<std::size_t>(std::find(numbers.begin(), numbers.end(), s.model) -
                                             numbers.begin());
    if (at == numbers.size()) {
      numbers.push_back(s.model);
      result.models.push_back(
          {0, s.service.compressed(kServiceAtoms), s.swap.compressed(kServiceAtoms)});
    }
    result.models[at].rate_per_us += s.rate_per_s * 1e-6;
    result.of.push_back(at);
  }
  return result;
}

// A response on the device, then `outside` in series.
using Cdf = std::function<double(double)>;

struct Series {
  Cdf device;
  profile::Distribution outside;

  double cdf(double time_us) const {
    double sum = 0;
    for (const profile::Atom& o : outside.atoms()) {
      if (o.time_us > time_us) break;
      sum += o.probability * device(time_us - o.time_us);
    }
    return sum;
  }
  double quantile_us(double probability, double scale_us) const {
    double low = 0, high = scale_us;
    for (int i = 0; i < 60 && cdf(high) < probability; ++i) low = std::exchange(high, 2 * high);
    if (cdf(high) < probability) return kInfinity;
    while (high - low > 1e-5 * high) {
      const double middle = 0.5 * (low + high);
      (cdf(middle) >= probability ? high : low) = middle;
    }
    return high;
  }
};

void finish(const Stream& stream, const Series& series, bool curve, StreamAnswer& answer) {
  answer.terms.outside_us = stream.outside.mean_us();
  answer.mean_us += stream.outside.mean_us();
  answer.percentile_us = series.quantile_us(probability_of(stream), answer.mean_us);
  answer.slack_us = kInfinity;
  if (stream.limit_us() > 0) {
    answer.p_late = std::max(0.0, 1 - series.cdf(stream.limit_us()));
    answer.slack_us = stream.limit_us() - answer.percentile_us;
  }
  if (!curve) return;
  // Even steps to a tail of 1e-4, and both sides of every jump that a constant service makes.
  double end = series.quantile_us(0.9999, answer.mean_us);
  if (std::isinf(end)) end = 2 * series.quantile_us(0.99, answer.mean_us);
  std::vector<double> times;
  times.reserve(512);
  for (int i = 0; i <= 400; ++i) times.push_back(end * i / 400);
  const profile::Distribution alone[] = {stream.service, convolve(stream.service, stream.swap)};
  for (const profile::Distribution& times_us : alone) {
    for (const profile::Atom& t : times_us.atoms()) {
      if (t.probability < 0.02) continue;
      for (const profile::Atom& o : series.outside.atoms()) {
        times.push_back(t.time_us + o.time_us);
        times.push_back((t.time_us + o.time_us) * (1 - 1e-9));
      }
    }
  }
  std::sort(times.begin(), times.end());
  std::vector<double> probability;
  probability.reserve(times.size());
  double least = 0;
  for (const double t : times) probability.push_back(least = std::max(least, series.cdf(t)));
  answer.response = Curve(std::move(times), std::move(probability));
}

// Numbers of a simulated stream, with their sampling errors.
void finish(const Stream& stream, const SimulatedStream& run, bool curve, StreamAnswer& answer) {
  const Estimate mean = run.mean(), percentile = run.quantile(probability_of(stream));
  answer.mean_us = mean.value;
  answer.mean_error_us = mean.error;
  answer.percentile_us = percentile.value;
  answer.percentile_error_us = percentile.error;
  answer.slack_us = kInfinity;
  if (stream.limit_us() > 0) {
    answer.p_late = run.late(stream.limit_us()).value;
    answer.slack_us = stream.limit_us() - answer.percentile_us;
  }
  answer.terms = {run.service_us, run.swap_us, 0, run.sharing_us, stream.outside.mean_us()};
  answer.terms.queue_us = std::max(
      0.0, mean.value - run.service_us - run.swap_us - run.sharing_us - stream.outside.mean_us());
  if (!curve) return;
  std::vector<float> sorted = run.responses_us;
  std::sort(sorted.begin(), sorted.end());
  std::vector<double> times, probability;
  const std::size_t points = std::min<std::size_t>(sorted.size(), 800);
  for (std::size_t i = 0; i < points; ++i) {
    const std::size_t at = points > 1 ? i * (sorted.size() - 1) / (points - 1) : 0;
    times.push_back(sorted[at]);
    probability.push_back(static_cast<double>(at + 1) / static_cast<double>(sorted.size()));
  }
  answer.response = Curve(std::move(times), std::move(probability));
}

Result<Answer> simulated(const System& system, const Predictor::Options& options) {
  SimulateOptions run{options.seed, options.requests, 0.05};
  if (options.effort == Effort::kScreen) run.requests = std::min<std::size_t>(run.requests, 40000);
  OB_TRY(const Simulated result, simulate(system, run));
  Answer answer;
  answer.utilisation = system.utilisation();
  answer.method = all_traces(system) ? Method::kTrace : Method::kSimulated;
  answer.conditions =
      answer.method == Method::kTrace
          ? "Holds for the recorded arrivals, with independent service times; of the future as far "
            "as it repeats them."
          : fmt::format(
                "Event simulation of {} requests, seed {}, steady state; errors are 99 % "
                "confidence intervals. Independent streams and services.",
                run.requests, run.seed);
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    answer.streams.emplace_back();
    finish(system.streams[i], result.streams[i], options.curves, answer.streams.back());
  }
  return answer;
}

Result<Answer> shared(const System& system, const Predictor::Options& options,
                      const Result<std::vector<SharedResponse>>& responses) {
  if (!responses) return tl::make_unexpected(responses.error());
  Answer answer;
  answer.utilisation = system.utilisation();
  answer.method = Method::kApproximate;
  const bool pure = system.discipline == Discipline::kProcessorSharing;
  answer.conditions = pure ? "Mean and variance exact for Poisson arrivals that share fairly, in "
                             "steady state; the shape of the tail is a fit."
                           : "A screen: models' queues taken as independent; Poisson arrivals, "
                             "steady state.";
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    const Stream& stream = system.streams[i];
    const SharedResponse& response = (*responses)[i];
    StreamAnswer& a = answer.streams.emplace_back();
    const double service = stream.service.mean_us();
    a.mean_us = response.mean_us();
    a.terms = {service, 0, pure ? 0 : a.mean_us - service, pure ? a.mean_us - service : 0, 0};
    finish(stream,
           {[&response](double t) { return response.cdf(t); },
            stream.outside.compressed(kOutsideAtoms)},
           options.curves, a);
  }
  return answer;
}

}  // namespace

struct Predictor::State {
  SwapSolver solver;
  MixtureQueue mixture;

  Result<Answer> fcfs(const System& system, const Options& options);
  Result<Answer> fcfs_screen(const System& system, const Options& options);
  Result<void> bracket(const System& system, const Models& models, Answer& answer);
};

Predictor::Predictor() : state_(std::make_unique<State>()) {}
Predictor::~Predictor() = default;
Predictor::Predictor(Predictor&&) noexcept = default;
Predictor& Predictor::operator=(Predictor&&) noexcept = default;

Result<Answer> Predictor::State::fcfs(const System& system, const Options& options) {
  const Models models = models_of(system);
  OB_TRY(const SwapQueue queue, solver.solve(models.models));
  Answer answer;
  answer.utilisation = queue.utilisation();
  answer.method = Method::kExact;
  answer.conditions =
      "Exact for Poisson arrivals, one server, first come first served, independent service times, "
      "in steady state.";
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    const Stream& stream = system.streams[i];
    const std::size_t m = models.of[i];
    StreamAnswer& a = answer.streams.emplace_back();
    const double service = models.models[m].service.mean_us();
    a.mean_us = queue.response_mean_us(m);
    a.terms = {service, a.mean_us - service - queue.mean_work_us(), queue.mean_work_us(), 0, 0};
    a.mean_error_us = a.percentile_error_us = queue.step_us();
    finish(stream,
           {[&queue, m](double t) { return queue.response_cdf(m, t); },
            stream.outside.compressed(kOutsideAtoms)},
           options.curves, a);
  }
  if (options.brackets) OB_CHECK_OK(bracket(system, models, answer));
  return answer;
}

// Rigorous errors: the answer rounded up and down.
Result<void> Predictor::State::bracket(const System& system, const Models& models, Answer& answer) {
  for (const Rounding rounding : {Rounding::kUp, Rounding::kDown}) {
    const auto queue = solver.solve(models.models, {kBracketPoints, rounding, 0});
    for (std::size_t i = 0; i < system.streams.size(); ++i) {
      StreamAnswer& a = answer.streams[i];
      if (rounding == Rounding::kUp) a.mean_error_us = a.percentile_error_us = 0;
      if (!queue) {  // rounded up it is unstable: too near to saturation for a bound
        a.mean_error_us = a.percentile_error_us = kInfinity;
        continue;
      }
      const Stream& stream = system.streams[i];
      const std::size_t m = models.of[i];
      const Series series{[&queue, m](double t) { return queue->response_cdf(m, t); },
                          stream.outside.compressed(kOutsideAtoms)};
      const double mean_us = queue->response_mean_us(m) + stream.outside.mean_us();
      const double percentile_us = series.quantile_us(probability_of(stream), a.mean_us);
      a.mean_error_us = std::max(a.mean_error_us, std::abs(mean_us - a.mean_us));
      a.percentile_error_us =
          std::max(a.percentile_error_us, std::abs(percentile_us - a.percentile_us));
    }
  }
  return {};
}

Result<Answer> Predictor::State::fcfs_screen(const System& system, const Options& options) {
  const Models models = models_of(system);
  OB_CHECK_OK(mixture.solve(models.models));
  Answer answer;
  answer.utilisation = mixture.utilisation();
  answer.method = Method::kApproximate;
  answer.conditions =
      "Takes the services of consecutive requests as independent; Poisson arrivals, one server, "
      "steady state.";
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    const Stream& stream = system.streams[i];
    const std::size_t m = models.of[i];
    StreamAnswer& a = answer.streams.emplace_back();
    const double service = models.models[m].service.mean_us();
    a.mean_us = mixture.response_mean_us(m);
    a.terms = {service, a.mean_us - service - mixture.mean_work_us(), mixture.mean_work_us(), 0, 0};
    finish(stream,
           {[this, m](double t) { return mixture.response_cdf(m, t); },
            stream.outside.compressed(kOutsideAtoms)},
           options.curves, a);
  }
  return answer;
}

Result<Answer> Predictor::predict(const System& system, const Options& options) {
  if (system.streams.empty() || !all_traces(system)) OB_CHECK_OK(check_system(system));
  const bool screen = options.effort == Effort::kScreen;
  if (!poisson(system)) {
    if (!options.replay) OB_CHECK_OK(check_future(system, options.seed));
    return simulated(system, options);
  }
  if (system.servers == 1) {
    switch (system.discipline) {
      case Discipline::kFcfs:
        return screen ? state_->fcfs_screen(system, options) : state_->fcfs(system, options);
      case Discipline::kProcessorSharing:
        return shared(system, options, processor_sharing(system));
      case Discipline::kTimeShared:
        if (screen) return shared(system, options, time_shared_screen(system));
        break;
      default:
        break;
    }
  }
  return simulated(system, options);
}

Result<Bounds> Predictor::bounds(const System& system) {
  OB_CHECK_OK(check_system(system));
  Bounds result;
  result.utilisation = system.utilisation();
  const bool rigorous =
      system.discipline == Discipline::kFcfs && system.servers == 1 && poisson(system);
  if (!rigorous) {
    for (const Stream& s : system.streams) {
      result.streams.push_back({s.service.min_us() + s.outside.min_us(), kInfinity});
    }
    return result;
  }
  const Models models = models_of(system);
  OB_TRY(const SwapBounds of, SwapBounds::of(models.models));
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    const Stream& s = system.streams[i];
    const double p = probability_of(s);
    // A sum exceeds the sum of two quantiles only if one part exceeds its own; a constant outside
    // costs nothing of the probability.
    const double part = s.outside.is_constant() ? p : 0.5 * (1 + p);
    result.streams.push_back({of.lower_us(models.of[i], p) + s.outside.min_us(),
                              of.upper_us(models.of[i], part) + s.outside.quantile_us(part)});
  }
  return result;
}

}  // namespace outboard::manage
