// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/trace.h"

#include <algorithm>
#include <cmath>

#include "manage/simulate/simulate.h"

namespace outboard::manage {
namespace {

constexpr std::size_t kParts = 4;
constexpr std::size_t kLeastArrivals = 400;
constexpr double kFactor = 1.5;
constexpr double kMoreLoad = 1.25;

// The arrivals of every stream within a span of time.
System cut(const System& system, double from_s, double to_s) {
  System part = system;
  for (Stream& s : part.streams) {
    std::erase_if(s.arrivals_s, [&](double t) { return t < from_s || t >= to_s; });
  }
  return part;
}

System faster(const System& system) {
  System more = system;
  for (Stream& s : more.streams) {
    for (double& t : s.arrivals_s) t /= kMoreLoad;
  }
  return more;
}

Result<std::vector<double>> percentiles(const System& system, std::uint64_t seed) {
  OB_TRY(const Simulated run, simulate(system, {.seed = seed}));
  std::vector<double> values;
  values.reserve(run.streams.size());
  for (std::size_t i = 0; i < run.streams.size(); ++i) {
    values.push_back(run.streams[i].quantile(system.streams[i].limit.percentile / 100).value);
  }
  return values;
}

// Times that cut all arrivals into parts of equal number.
std::vector<double> borders(const System& system) {
  std::vector<double> all;
  for (const Stream& s : system.streams) {
    all.insert(all.end(), s.arrivals_s.begin(), s.arrivals_s.end());
  }
  std::sort(all.begin(), all.end());
  std::vector<double> result;
  result.reserve(kParts + 1);
  for (std::size_t i = 0; i < kParts; ++i) result.push_back(all[i * all.size() / kParts]);
  result.push_back(std::nextafter(all.back(), HUGE_VAL));
  return result;
}

}  // namespace

Result<Trust> trust_in(const System& system, std::uint64_t seed) {
  for (const Stream& s : system.streams) {
    if (s.arrivals_s.size() < kLeastArrivals) {
      return error(ErrorKind::kRefused,
                   "the trace of application ({}) has ({}) arrivals; at least {} are needed to "
                   "predict from it",
                   s.name, s.arrivals_s.size(), kLeastArrivals);
    }
  }
  const std::size_t streams = system.streams.size();
  const auto at = borders(system);
  Trust trust;
  std::vector<double> least(streams, HUGE_VAL), most(streams, 0);
  std::vector<double> slowest(streams, HUGE_VAL), fastest(streams, 0);
  for (std::size_t p = 0; p < kParts; ++p) {
    const System part = cut(system, at[p], at[p + 1]);
    OB_TRY(const auto here, percentiles(part, seed));
    for (std::size_t i = 0; i < streams; ++i) {
      const double rate =
          static_cast<double>(part.streams[i].arrivals_s.size()) / (at[p + 1] - at[p]);
      slowest[i] = std::min(slowest[i], rate);
      fastest[i] = std::max(fastest[i], rate);
      least[i] = std::min(least[i], here[i]);
      most[i] = std::max(most[i], here[i]);
    }
  }
  OB_TRY(const auto now, percentiles(system, seed));
  OB_TRY(const auto more, percentiles(faster(system), seed));
  for (std::size_t i = 0; i < streams; ++i) {
    trust.rate_spread = std::max(trust.rate_spread, fastest[i] / slowest[i]);
    trust.percentile_spread = std::max(trust.percentile_spread, most[i] / least[i]);
    trust.growth = std::max(trust.growth, more[i] / now[i]);
  }
  return trust;
}

Result<void> check_future(const System& system, std::uint64_t seed) {
  const bool traces = std::all_of(system.streams.begin(), system.streams.end(),
                                  [](const Stream& s) { return !s.arrivals_s.empty(); });
  if (traces) {
    OB_TRY(const Trust trust, trust_in(system, seed));
    if (std::max({trust.rate_spread, trust.percentile_spread, trust.growth}) <= kFactor) return {};
    return error(ErrorKind::kRefused,
                 "the recorded arrivals are no ground for a prediction: between their quarters "
                 "rates differ by a factor of ({:.2f}) and percentiles by ({:.2f}), and a quarter "
                 "more load makes the percentile ({:.2f}) times as long; each must be at most {}",
                 trust.rate_spread, trust.percentile_spread, trust.growth, kFactor);
  }
  for (const Stream& s : system.streams) {
    const auto& idc = s.burstiness.idc;
    if (idc.size() < 2) continue;
    const double last = idc.back().value, before = idc[idc.size() - 2].value;
    if (last > 2 && last > 2 * before) {
      return error(
          ErrorKind::kRefused,
          "the arrivals of application ({}) are no ground for a prediction: their index of "
          "dispersion still grows ({:.3g} in windows of {:g} s, {:.3g} of {:g} s), so no "
          "steady process has it",
          s.name, before, idc[idc.size() - 2].window_s, last, idc.back().window_s);
    }
  }
  return {};
}

}  // namespace outboard::manage
