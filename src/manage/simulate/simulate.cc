// SPDX-License-Identifier: Apache-2.0
#include "manage/simulate/simulate.h"

#include <algorithm>
#include <cmath>

#include "manage/simulate/arrivals.h"
#include "manage/simulate/disciplines.h"

namespace outboard::manage {
namespace {

constexpr std::size_t kBatches = 20;
constexpr double kStudent99 = 2.861;  // two-sided, 19 degrees of freedom

// Collects what ended, warm-up left out.
struct Sink {
  std::vector<SimulatedStream>& streams;
  const std::vector<Sampler>& outside;
  Random& random;
  double count_from_us = 0;

  void end(const Job& job, double response_us, double swap_us, double sharing_us) {
    if (job.arrival_us < count_from_us) return;
    const auto at = static_cast<std::size_t>(job.stream);
    SimulatedStream& stream = streams[at];
    stream.responses_us.push_back(static_cast<float>(response_us + outside[at].draw(random)));
    stream.service_us += job.service_us;
    stream.swap_us += swap_us;
    stream.sharing_us += sharing_us;
  }
};

double key_of(const System& system, const Stream& stream, double arrival_us) {
  if (system.discipline == profile::Discipline::kPriority) return stream.priority;
  return arrival_us + (stream.limit_us() > 0 ? stream.limit_us() : 1e12);
}

template <typename Device>
std::uint64_t run(const System& system, const SimulateOptions& options, Device& device, Sink& sink,
                  Random& random) {
  std::vector<Sampler> service, swap;
  for (const Stream& s : system.streams) {
    service.emplace_back(s.service);
    swap.emplace_back(s.swap);
  }
  Arrivals arrivals(system, random);
  const auto warm_up = static_cast<std::uint64_t>(
      arrivals.all_traces() ? 0 : options.warm_up * static_cast<double>(options.requests));
  const std::uint64_t last = arrivals.all_traces() ? UINT64_MAX : warm_up + options.requests;
  sink.count_from_us = warm_up > 0 ? kNever : 0;
  std::uint64_t count = 0;
  for (; count < last; ++count) {
    const Arrivals::Next next = arrivals.next();
    if (next.time_us == kNever) break;
    if (count == warm_up) sink.count_from_us = next.time_us;
    const auto at = static_cast<std::size_t>(next.stream);
    const Stream& stream = system.streams[at];
    Job job{next.time_us,          service[at].draw(random),
            swap[at].draw(random), next.stream,
            stream.model,          0};
    job.key = key_of(system, stream, next.time_us);
    device.arrive(job);
  }
  device.drain();
  return 2 * count;
}

template <template <typename> class Device>
std::uint64_t run_on(const System& system, const SimulateOptions& options, Sink& sink,
                     Random& random) {
  Device<Sink> device(system, sink);
  return run(system, options, device, sink, random);
}

// Means of a statistic over batches of consecutive responses.
template <typename F>
Estimate over_batches(const std::vector<float>& all, double value, F&& statistic) {
  const std::size_t size = all.size() / kBatches;
  if (size < 2) return {value, HUGE_VAL};
  double sum = 0, squares = 0;
  for (std::size_t b = 0; b < kBatches; ++b) {
    const double x = statistic(all.data() + b * size, size);
    sum += x;
    squares += x * x;
  }
  const double n = kBatches, mean = sum / n;
  const double variance = std::max(0.0, squares / n - mean * mean) * n / (n - 1);
  return {value, kStudent99 * std::sqrt(variance / n)};
}

double mean_of(const float* x, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += x[i];
  return sum / static_cast<double>(n);
}

double quantile_of(std::vector<float>& x, double probability) {
  const auto at =
      std::min(x.size() - 1, static_cast<std::size_t>(std::max(
                                 0.0, std::ceil(probability * static_cast<double>(x.size())) - 1)));
  std::nth_element(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(at), x.end());
  return x[at];
}

}  // namespace

Estimate SimulatedStream::mean() const {
  if (responses_us.empty()) return {0, HUGE_VAL};
  return over_batches(responses_us, mean_of(responses_us.data(), responses_us.size()), mean_of);
}

Estimate SimulatedStream::quantile(double probability) const {
  if (responses_us.empty()) return {0, HUGE_VAL};
  std::vector<float> copy = responses_us;
  const double value = quantile_of(copy, probability);
  return over_batches(responses_us, value, [&](const float* x, std::size_t n) {
    copy.assign(x, x + n);
    return quantile_of(copy, probability);
  });
}

Estimate SimulatedStream::late(double limit_us) const {
  if (responses_us.empty()) return {0, HUGE_VAL};
  auto share = [&](const float* x, std::size_t n) {
    std::size_t late = 0;
    for (std::size_t i = 0; i < n; ++i) late += x[i] > limit_us ? 1 : 0;
    return static_cast<double>(late) / static_cast<double>(n);
  };
  return over_batches(responses_us, share(responses_us.data(), responses_us.size()), share);
}

Result<Simulated> simulate(const System& system, const SimulateOptions& options) {
  const bool traces = std::all_of(system.streams.begin(), system.streams.end(),
                                  [](const Stream& s) { return !s.arrivals_s.empty(); });
  if (!traces || system.streams.empty()) OB_CHECK_OK(check_system(system));
  Simulated result;
  result.streams.resize(system.streams.size());
  double total_per_s = 0;
  for (const Stream& s : system.streams) total_per_s += s.rate_per_s;
  std::vector<Sampler> outside;
  for (std::size_t i = 0; i < system.streams.size(); ++i) {
    outside.emplace_back(system.streams[i].outside);
    const double share = system.streams[i].rate_per_s / total_per_s;
    result.streams[i].responses_us.reserve(
        static_cast<std::size_t>(share * static_cast<double>(options.requests) * 1.05));
  }
  Random random(options.seed), outside_random(options.seed ^ 0x6f757462U);
  Sink sink{result.streams, outside, outside_random};
  using profile::Discipline;
  switch (system.discipline) {
    case Discipline::kFcfs:
      result.events = run_on<Fcfs>(system, options, sink, random);
      break;
    case Discipline::kPriority:
    case Discipline::kEdf:
      result.events = run_on<Ordered>(system, options, sink, random);
      break;
    case Discipline::kTimeShared:
      result.events = run_on<TimeShared>(system, options, sink, random);
      break;
    case Discipline::kProcessorSharing:
      result.events = run_on<ProcessorSharing>(system, options, sink, random);
      break;
    case Discipline::kBatching:
      result.events = run_on<Batching>(system, options, sink, random);
      break;
  }
  for (SimulatedStream& s : result.streams) {
    if (s.responses_us.empty()) continue;
    const double n = static_cast<double>(s.responses_us.size());
    s.service_us /= n;
    s.swap_us /= n;
    s.sharing_us /= n;
  }
  return result;
}

}  // namespace outboard::manage
