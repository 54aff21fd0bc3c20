// SPDX-License-Identifier: Apache-2.0
#include "manage/place/day.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "manage/place/queue_judge.h"
#include "manage/simulate/arrivals.h"
#include "manage/simulate/simulate.h"

namespace outboard::manage {
namespace {

constexpr double kMicro = 1e-6;

std::uint64_t seed_of(std::uint64_t seed, const std::string& name) {
  std::uint64_t hash = 0xcbf29ce484222325ULL ^ seed;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

// Arrivals of a stream over the day; a trace is repeated, its mean gap between the rounds.
std::vector<double> stream_arrivals(const profile::Application& app, double rate_factor,
                                    double from_s, double to_s, std::uint64_t seed) {
  std::vector<double> times;
  if (!app.arrivals_s.empty() && rate_factor == 1) {
    const double first = app.arrivals_s.front();
    const double round = app.arrivals_s.back() - first + 1 / app.rate_per_s;
    for (double start = from_s; start < to_s; start += round) {
      for (const double t : app.arrivals_s) {
        if (start + t - first < to_s) times.push_back(start + t - first);
      }
    }
    return times;
  }
  System system;
  system.streams.emplace_back();
  system.streams[0].rate_per_s = app.rate_per_s * rate_factor;
  if (rate_factor == 1) system.streams[0].burstiness = app.burstiness;
  Random random(seed);
  Arrivals arrivals(system, random);
  for (double t = from_s + arrivals.next().time_us * kMicro; t < to_s;
       t = from_s + arrivals.next().time_us * kMicro) {
    times.push_back(t);
  }
  return times;
}

std::vector<double> arrivals_of(const profile::Application& app, const DayOptions& options) {
  const std::uint64_t seed = seed_of(options.seed, app.name);
  std::vector<double> times = stream_arrivals(app, 1, 0, options.length_s, seed);
  for (std::size_t i = 0; i < options.bursts.size(); ++i) {
    const Burst& b = options.bursts[i];
    if (b.application != app.name || b.factor <= 1) continue;
    // What comes on top is Poisson, whatever the application's own arrivals are.
    profile::Application extra;
    extra.rate_per_s = app.rate_per_s * (b.factor - 1);
    const auto more =
        stream_arrivals(extra, 1, b.from_s, std::min(b.to_s, options.length_s), seed + i + 1);
    times.insert(times.end(), more.begin(), more.end());
    std::sort(times.begin(), times.end());
  }
  return times;
}

class Simulation {
 public:
  Simulation(Placer& placer, const DayOptions& options)
      : placer_(placer), fleet_(placer.fleet()), options_(options) {}

  Result<Day> run() {
    day_.window_s = options_.window_s;
    const auto windows = static_cast<std::size_t>(std::ceil(options_.length_s / options_.window_s));
    for (AppId app : fleet_.applications()) {
      if (!fleet_.placed(app)) continue;
      const auto& a = fleet_.application(app);
      day_.applications.push_back({a.name, a.limit, 0, 0, 0, {}, {}});
      day_.applications.back().windows.resize(windows);
      app_index_[app] = day_.applications.size() - 1;
    }
    std::size_t done = 0;
    for (const auto& [app, at] : app_index_) {
      tell("dealing requests of " + fleet_.application(app).name, done++);
      deal(app);
    }
    for (DeviceId d = 0; d < fleet_.devices(); ++d) {
      tell("simulating " + fleet_.device(d).name, done++);
      OB_CHECK_OK(simulate_device(d));
    }
    for (AppDay& a : day_.applications) find_broken(a);
    return std::move(day_);
  }

 private:
  void tell(const std::string& what, std::size_t done) {
    if (!options_.progress) return;
    options_.progress(what, done, app_index_.size() + static_cast<std::size_t>(fleet_.devices()));
  }

  // The failure that this time falls into, on that device.
  const Failure* failure_at(DeviceId device, double time_s) const {
    for (const Failure& f : options_.failures) {
      if (f.device == fleet_.device(device).name && time_s >= f.from_s && time_s < f.to_s)
        return &f;
    }
    return nullptr;
  }

  void count(AppId app, double time_s, bool late, bool lost) {
    AppDay& a = day_.applications[app_index_.at(app)];
    ++a.requests;
    a.late += late ? 1 : 0;
    a.lost += lost ? 1 : 0;
    const auto w = std::min(a.windows.size() - 1,
                            static_cast<std::size_t>(std::max(0.0, time_s / options_.window_s)));
    ++a.windows[w].requests;
    a.windows[w].late += late ? 1 : 0;
  }

  // Where a request that is meant for `device` goes at this time; nothing: it is lost.
  std::optional<DeviceId> route(AppId app, DeviceId device, double time_s) const {
    const Failure* failure = failure_at(device, time_s);
    if (!failure) return device;
    for (const Backup& b : placer_.plan(device)) {
      if (b.app != app) continue;
      const double ready_s = failure->from_s + options_.detect_s +
                             fleet_.profile(app, b.to.device)->load.quantile_us(1) * kMicro;
      if (time_s >= ready_s && !failure_at(b.to.device, time_s)) return b.to.device;
    }
    return std::nullopt;
  }

  void deal(AppId app) {
    const auto parts = fleet_.where(app);
    constexpr double kGolden = 0.6180339887498949;  // spreads the shares evenly
    std::size_t n = 0;
    for (const double t : arrivals_of(fleet_.application(app), options_)) {
      double turn = static_cast<double>(n) * kGolden;
      turn -= std::floor(turn);
      ++n;
      std::size_t part = 0;
      while (part + 1 < parts.size() && turn >= parts[part].share) turn -= parts[part++].share;
      const auto to = route(app, parts[part].device, t);
      if (to) {
        dealt_[*to][app].push_back(t);
      } else {
        count(app, t, true, true);
      }
    }
  }

  Result<void> simulate_device(DeviceId device) {
    const auto found = dealt_.find(device);
    if (found == dealt_.end()) return {};
    Load load{&fleet_.device(device), {}};
    for (const auto& [app, times] : found->second) add(load, fleet_.part(app, device, 1));
    System system = system_of(load);
    std::vector<AppId> apps;
    for (Stream& s : system.streams) {
      const AppId app = fleet_.named(s.name);
      apps.push_back(app);
      s.arrivals_s = found->second.at(app);
      s.burstiness = {};
    }
    OB_TRY(const Simulated result, simulate(system, {options_.seed, 1, 0}));
    day_.events += result.events;
    for (std::size_t i = 0; i < apps.size(); ++i) {
      const double limit_ms = load.parts[i].application->limit.latency_ms;
      const auto& times = system.streams[i].arrivals_s;
      const auto& responses = result.streams[i].responses_us;
      for (std::size_t k = 0; k < times.size() && k < responses.size(); ++k) {
        const double end_s = times[k] + responses[k] * kMicro;
        const bool lost = failure_at(device, end_s) != nullptr && !failure_at(device, times[k]);
        count(apps[i], times[k], lost || (limit_ms > 0 && responses[k] > limit_ms * 1e3), lost);
      }
    }
    dealt_.erase(found);
    return {};
  }

  // Joins broken windows. A window of few requests may have one late by chance: it breaks when more
  // are late than the percentile allows of its own number, rounded up.
  void find_broken(AppDay& a) const {
    const double allowed = 1 - a.limit.percentile / 100;
    std::uint64_t requests = 0, late = 0;
    for (std::size_t w = 0; w < a.windows.size(); ++w) {
      const auto& window = a.windows[w];
      const bool breaks = window.late > std::ceil(allowed * window.requests);
      if (!breaks) continue;
      const double from = static_cast<double>(w) * options_.window_s;
      if (a.broken.empty() || a.broken.back().to_s < from - 1e-6) {
        a.broken.push_back({from, from, 0});
        requests = late = 0;
      }
      requests += window.requests;
      late += window.late;
      a.broken.back().to_s = std::min(from + options_.window_s, options_.length_s);
      a.broken.back().late_share = static_cast<double>(late) / static_cast<double>(requests);
    }
  }

  Placer& placer_;
  const Fleet& fleet_;
  const DayOptions& options_;
  Day day_;
  std::map<AppId, std::size_t> app_index_;
  std::map<DeviceId, std::map<AppId, std::vector<double>>> dealt_;
};

}  // namespace

Result<Day> simulate_day(Placer& placer, const DayOptions& options) {
  for (const Failure& f : options.failures) {
    if (!placer.fleet().find_device(f.device)) {
      return error(ErrorKind::kNotFound, "failing device ({}) is not among the devices", f.device);
    }
    if (!(f.from_s >= 0 && f.to_s > f.from_s)) {
      return error(ErrorKind::kInvalid,
                   "failure of ({}) from {} s to {} s must end after it begins", f.device, f.from_s,
                   f.to_s);
    }
  }
  for (const Burst& b : options.bursts) {
    if (!placer.fleet().find(b.application)) {
      return error(ErrorKind::kNotFound, "bursting application ({}) is not among the applications",
                   b.application);
    }
    if (!(b.from_s >= 0 && b.to_s > b.from_s && b.factor >= 1 && b.factor <= 1000)) {
      return error(ErrorKind::kInvalid,
                   "burst of ({}) from {} s to {} s by a factor of {} must end after it begins and "
                   "have a factor between 1 and 1000",
                   b.application, b.from_s, b.to_s, b.factor);
    }
  }
  return Simulation(placer, options).run();
}

}  // namespace outboard::manage
