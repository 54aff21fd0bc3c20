// SPDX-License-Identifier: Apache-2.0
// Measures for bench/run placement; prints one JSON object.
//
//   bench_placement density TPUS GPUS CPUS SHARED PERCENTILE SEED [DEVICE_GB MODEL_FACTOR [TRACE]]
//   bench_placement optimum SEED
//   bench_placement speed DEVICES RESIDENTS DECISIONS SURVIVE SEED
//   bench_placement replay DEVICES EVENTS SEED
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "bench/placement/optimum.h"
#include "bench/placement/workload.h"
#include "manage/place/baselines.h"
#include "manage/place/pack.h"
#include "manage/place/queue_judge.h"
#include "manage/simulate/simulate.h"

namespace outboard::bench {
namespace {

using manage::AppId;
using manage::DeviceId;
using manage::Fleet;
using nlohmann::json;

constexpr std::size_t kRequestsJudged = 60000;      // of an answer that is simulated
constexpr std::size_t kRequestsSimulated = 120000;  // of the test, with another seed
constexpr std::uint64_t kTestSeed = 977;

Fleet fleet_of(profile::Cluster cluster) {
  auto fleet = Fleet::of(std::move(cluster));
  if (!fleet) {
    std::fprintf(stderr, "%s\n", fleet.error().message.c_str());
    std::exit(1);
  }
  return *std::move(fleet);
}

// Of this thread's processor: decisions are computed by one thread and wait for nothing, and a
// machine that others use should not count.
double seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// What requests really see: the share that is late, over each part's allowance (1 - percentile).
struct Late {
  double worst_share = 0;  // of an application's requests
  int broken = 0;          // applications with more late requests than their limit allows
  int applications = 0;
};

class Tester {
 public:
  explicit Tester(const WorkloadOptions& options) : options_(options) {}

  Late late_on(const Fleet& fleet, DeviceId device) {
    Late late;
    const manage::Load load = fleet.load(device);
    if (load.parts.empty()) return late;
    late.applications = static_cast<int>(load.parts.size());
    manage::System system = manage::system_of(load);
    if (!options_.trace_s.empty()) {
      for (std::size_t i = 0; i < load.parts.size(); ++i) {
        const std::string& name = load.parts[i].application->name;
        system.streams[i].arrivals_s = later_arrivals(options_, std::stoul(name.substr(4)),
                                                      load.parts[i].application->rate_per_s);
      }
    }
    const auto run = manage::simulate(system, {kTestSeed, kRequestsSimulated, 0.05});
    for (std::size_t i = 0; i < load.parts.size(); ++i) {
      const auto& limit = load.parts[i].application->limit;
      // Overloaded: every request is late in the end.
      const double share = run ? run->streams[i].late(limit.latency_ms * 1e3).value : 1.0;
      late.worst_share = std::max(late.worst_share, share);
      late.broken += share > 1 - limit.percentile / 100 ? 1 : 0;
    }
    return late;
  }

  Late late(const Fleet& fleet) {
    Late all;
    for (DeviceId d = 0; d < fleet.devices(); ++d) {
      const Late one = late_on(fleet, d);
      all.worst_share = std::max(all.worst_share, one.worst_share);
      all.broken += one.broken;
      all.applications += one.applications;
    }
    return all;
  }

 private:
  const WorkloadOptions& options_;
};

json as_json(int hosted, int kept, const Late& late) {
  return {{"hosted", hosted},
          {"kept_prefix", kept},
          {"late_worst_percent", 100 * late.worst_share},
          {"broken_percent", late.applications ? 100.0 * late.broken / late.applications : 0}};
}

// Until the first refusal; `kept` is the longest prefix after which every limit still held.
json run_baseline(const WorkloadOptions& options, const profile::Cluster& cluster,
                  manage::Rule rule) {
  Fleet fleet = fleet_of(cluster);
  manage::Baseline baseline(fleet, rule);
  Tester tester(options);
  const bool model = rule == manage::Rule::kIbisBreadth || rule == manage::Rule::kIbisDepth;
  int hosted = 0, kept = 0;
  bool all_kept = true;
  for (AppId id : fleet.applications()) {
    const auto device = baseline.admit(id);
    if (!device) break;
    ++hosted;
    if (!all_kept) continue;
    all_kept = tester.late_on(fleet, *device).broken == 0;
    if (all_kept) kept = hosted;
    if (!all_kept && !model) break;  // what comes after the first broken limit counts for nothing
  }
  return as_json(hosted, kept, model ? tester.late(fleet) : Late{});
}

json run_placer(const WorkloadOptions& options, const profile::Cluster& cluster, bool tight,
                int moves) {
  Fleet fleet = fleet_of(cluster);
  manage::QueueJudge queue(kRequestsJudged);
  manage::RememberingJudge judge(queue);
  manage::PlacerOptions placer_options;
  placer_options.tight = tight;
  placer_options.moves = moves;
  manage::Placer placer(fleet, judge, placer_options);
  int hosted = 0;
  const double begin = seconds();
  for (AppId id : fleet.applications()) {
    if (!placer.admit(id).placed) break;
    ++hosted;
  }
  const double took = seconds() - begin;
  json result = as_json(hosted, hosted, Tester(options).late(fleet));
  result["seconds"] = took;
  result["answers"] = judge.computed();
  return result;
}

std::vector<double> read_trace(const char* path) {
  std::vector<double> times;
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    int h = 0, m = 0;
    double s = 0;
    if (std::sscanf(line.c_str(), "%*d-%*d-%*d %d:%d:%lf", &h, &m, &s) == 3) {
      times.push_back(h * 3600 + m * 60 + s);
    }
  }
  return times;
}

json density(char** arguments, int count) {
  WorkloadOptions options;
  options.tpus = std::atoi(arguments[0]);
  options.gpus = std::atoi(arguments[1]);
  options.cpus = std::atoi(arguments[2]);
  options.share_models = std::atoi(arguments[3]) != 0;
  options.percentile = std::atof(arguments[4]);
  options.seed = std::strtoull(arguments[5], nullptr, 10);
  if (count > 6) options.device_memory_bytes = std::atof(arguments[6]) * 1e9;
  if (count > 7) options.model_memory_factor = std::atof(arguments[7]);
  if (count > 8) options.trace_s = read_trace(arguments[8]);
  const profile::Cluster cluster = make_workload(options);
  json result;
  for (manage::Rule rule : manage::kRules) {
    result[std::string(name_of(rule))] = run_baseline(options, cluster, rule);
  }
  result["outboard-still"] = run_placer(options, cluster, true, 0);
  result["outboard"] = run_placer(options, cluster, true, 2);
  return result;
}

json run_optimum(char** arguments) {
  WorkloadOptions options;
  options.tpus = 2;
  options.gpus = 1;
  options.seed = std::strtoull(arguments[0], nullptr, 10);
  options.applications = 12;
  options.rate_least_per_s = 10;
  options.rate_most_per_s = 25;
  profile::Cluster cluster = make_workload(options);
  Fleet fleet = fleet_of(cluster);
  manage::QueueJudge queue(20000);
  manage::RememberingJudge judge(queue, 1000000);
  manage::PackOptions pack_options;
  const double begin = seconds();
  const auto packed = manage::pack(fleet, judge, fleet.applications(), pack_options);
  const double took = seconds() - begin;
  Fleet empty = fleet_of(cluster);
  const Optimum best = optimum(empty, judge, pack_options.placer.promise);
  Fleet online_fleet = fleet_of(cluster);
  manage::Placer online(online_fleet, judge, pack_options.placer);
  int placed_online = 0;
  for (AppId id : online_fleet.applications()) placed_online += online.admit(id).placed ? 1 : 0;
  return {{"packed", packed.placed.size()}, {"optimum", best.placed},     {"online", placed_online},
          {"proven", best.proven},          {"sets", best.feasible_sets}, {"pack_seconds", took}};
}

// A fleet with about `residents` light applications on every device, all of which hold.
struct Loaded {
  profile::Cluster cluster;
  Fleet fleet;
};

Loaded loaded(int devices, int residents, std::uint64_t seed, manage::Judge& judge,
              double headroom) {
  WorkloadOptions options;
  options.tpus = devices * 6 / 10;
  options.gpus = devices - options.tpus;
  options.seed = seed;
  options.device_memory_bytes = 16e9;
  options.applications =
      static_cast<std::size_t>(devices) * static_cast<std::size_t>(residents) * 2;
  options.rate_least_per_s = 0.3;
  options.rate_most_per_s = 2.4;
  profile::Cluster cluster = make_workload(options);
  std::vector<profile::Application> apps = std::move(cluster.applications);
  cluster.applications.clear();
  Fleet fleet = fleet_of(cluster);
  std::mt19937_64 random(seed);
  manage::Promise promise;
  promise.margin = headroom;
  std::size_t next = 0;
  for (DeviceId d = 0; d < fleet.devices(); ++d) {
    for (int k = 0; k < residents && next < apps.size();) {
      const auto id = fleet.add(apps[next++]);
      if (!fleet.profile(*id, d)) {
        fleet.remove(*id);
        continue;
      }
      manage::Load load = fleet.load(d);
      manage::add(load, fleet.part(*id, d, 1));
      // Bounds and utilisation only: the device is checked once, below.
      if (!manage::check_bounds(load, judge, promise).holds() || utilisation(load) > 0.5) {
        fleet.remove(*id);
        if (++k > 3 * residents) break;
        continue;
      }
      fleet.put(*id, {d, 1});
      ++k;
    }
    while (!manage::check(fleet.load(d), judge, promise).holds()) {
      fleet.remove(fleet.on(d).back());
    }
  }
  return {std::move(cluster), std::move(fleet)};
}

double percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(p * static_cast<double>(values.size() - 1))];
}

json speed(char** arguments) {
  const int devices = std::atoi(arguments[0]), residents = std::atoi(arguments[1]);
  const int decisions = std::atoi(arguments[2]);
  const std::uint64_t seed = std::strtoull(arguments[4], nullptr, 10);
  manage::QueueJudge queue(20000);
  Loaded world = loaded(devices, residents, seed, queue, 0.1);
  manage::RememberingJudge judge(queue);  // knows nothing yet: the first decisions are cold
  manage::PlacerOptions options;
  options.survive = std::atoi(arguments[3]);
  options.tight = false;
  manage::Placer placer(world.fleet, judge, options);
  const double begin = seconds();
  const bool reserved = !placer.reserve_all();
  const double reserve_seconds = seconds() - begin;
  WorkloadOptions more;
  more.tpus = more.gpus = 1;
  more.seed = seed + 1000;
  more.applications = static_cast<std::size_t>(decisions);
  more.rate_least_per_s = 1;
  more.rate_most_per_s = 10;
  std::vector<double> times_ms, refused_ms;
  std::size_t placed = 0, screened = 0, judged = 0, parts = 0;
  for (DeviceId d = 0; d < world.fleet.devices(); ++d) parts += world.fleet.on(d).size();
  for (profile::Application app : make_workload(more).applications) {
    app.name = "new-" + app.name;
    // A third asks for more than any device has left.
    if (times_ms.size() % 3 == 2) app.limit.latency_ms = 60;
    const AppId id = *world.fleet.add(app);
    const double start = seconds();
    const manage::Decision decision = placer.admit(id);
    times_ms.push_back((seconds() - start) * 1e3);
    placed += decision.placed ? 1 : 0;
    screened += decision.screened;
    judged += decision.judged;
    if (!decision.placed) {
      refused_ms.push_back(times_ms.back());
      placer.remove(id);
    }
  }
  const auto n = static_cast<double>(times_ms.size());
  return {{"devices", devices},
          {"residents", static_cast<double>(parts) / devices},
          {"p50_ms", percentile(times_ms, 0.5)},
          {"p99_ms", percentile(times_ms, 0.99)},
          {"max_ms", percentile(times_ms, 1)},
          {"refused_p50_ms", refused_ms.empty() ? 0 : percentile(refused_ms, 0.5)},
          {"placed", placed},
          {"refused", refused_ms.size()},
          {"screened_mean", static_cast<double>(screened) / n},
          {"judged_mean", static_cast<double>(judged) / n},
          {"reserved", reserved},
          {"reserve_all_seconds", reserve_seconds},
          {"fleet_bytes", world.fleet.memory_bytes()},
          {"placer_bytes", placer.memory_bytes()},
          {"judge_bytes", judge.memory_bytes()}};
}

json replay(char** arguments) {
  WorkloadOptions options;
  const int devices = std::atoi(arguments[0]);
  const int events = std::atoi(arguments[1]);
  options.tpus = devices * 6 / 10;
  options.gpus = devices - options.tpus;
  options.seed = std::strtoull(arguments[2], nullptr, 10);
  options.applications = static_cast<std::size_t>(events);
  profile::Cluster cluster = make_workload(options);
  const auto apps = std::move(cluster.applications);
  cluster.applications.clear();
  Fleet fleet = fleet_of(cluster);
  manage::QueueJudge queue(20000);
  manage::RememberingJudge judge(queue);
  manage::PlacerOptions placer_options;
  placer_options.tight = false;
  manage::Placer placer(fleet, judge, placer_options);
  std::mt19937_64 random(options.seed);
  std::vector<AppId> there;
  std::vector<double> times_ms;
  int refused = 0, done = 0;
  std::size_t next = 0;
  const double begin = seconds();
  while (done < events) {
    ++done;
    // Arrivals until the fleet is about full, then both alike.
    const bool leave = !there.empty() && (random() & 1023) < (refused > 20 ? 512 : 128);
    const double start = seconds();
    if (leave) {
      const std::size_t at = random() % there.size();
      placer.remove(there[at]);
      there.erase(there.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      const AppId id = *fleet.add(apps[next++]);
      if (placer.admit(id).placed) {
        there.push_back(id);
      } else {
        ++refused;
        placer.remove(id);
      }
    }
    times_ms.push_back((seconds() - start) * 1e3);
  }
  const double took = seconds() - begin;
  // All of it again, from nothing: does every limit hold?
  manage::QueueJudge fresh(20000);
  int broken = 0, into_margin = 0;
  manage::Promise limit = placer_options.promise;
  limit.margin = 0;
  for (DeviceId d = 0; d < fleet.devices(); ++d) {
    broken += manage::check(fleet.load(d), fresh, limit).holds() ? 0 : 1;
    into_margin += manage::check(fleet.load(d), fresh, placer_options.promise).holds() ? 0 : 1;
  }
  return {{"events", done},
          {"seconds", took},
          {"p99_ms", percentile(times_ms, 0.99)},
          {"there", there.size()},
          {"refused", refused},
          {"devices_broken", broken},
          {"devices_into_margin", into_margin},
          {"answers", judge.computed()},
          {"asked", judge.asked()},
          {"bytes", fleet.memory_bytes() + placer.memory_bytes() + judge.memory_bytes()}};
}

}  // namespace
}  // namespace outboard::bench

int main(int argc, char** argv) {
  using namespace outboard::bench;
  const std::string what = argc > 1 ? argv[1] : "";
  nlohmann::json result;
  if (what == "density" && argc >= 8) {
    result = density(argv + 2, argc - 2);
  } else if (what == "optimum" && argc == 3) {
    result = run_optimum(argv + 2);
  } else if (what == "speed" && argc == 7) {
    result = speed(argv + 2);
  } else if (what == "replay" && argc == 5) {
    result = replay(argv + 2);
  } else {
    std::fprintf(stderr, "bench_placement: see the head of bench/placement/driver.cc\n");
    return 2;
  }
  std::puts(result.dump().c_str());
  return 0;
}
