// SPDX-License-Identifier: Apache-2.0
#include "bench/placement/workload.h"

#include <fmt/format.h>

namespace outboard::bench {
namespace {

using profile::Distribution;

struct Known {
  const char* model;
  double limit_ms;  // small 200, medium 400, large 600
  double tpu_ms,
      tpu_swap_ms;  // published (Ibis' notebook queueing_validation_edgetpu); 0: not there
  double gpu_ms,
      gpu_memory_mb;  // published (Ibis' workload files: 1000 / service rate; backend memory)
};

constexpr Known kModels[] = {
    {"mobilenet_v1", 200, 4.55, 15.12, 0, 0},
    {"mobilenet_v2", 200, 4.91, 10.43, 1e3 / 76.8, 1130},
    {"efficientnet-S", 200, 9.83, 17.33, 0, 0},
    {"resnet18", 200, 0, 0, 1e3 / 92.3, 700},
    {"googlenet", 200, 0, 0, 1e3 / 72.0, 893},
    {"efficientnet-M", 400, 15.85, 22.63, 0, 0},
    {"ssd_mobilenet_v2", 400, 19.23, 24.63, 0, 0},
    {"resnet34", 400, 0, 0, 1e3 / 51.2, 700},
    {"resnet50", 400, 0, 0, 1e3 / 34.0, 965},
    {"efficientnet-L", 600, 42.18, 17.53, 0, 0},
    {"inception_v3", 600, 62.95, 19.39, 1e3 / 32.7, 936},
};
// Ibis' literals: host stage 20 ms beside a TPU and 24 ms on a Nano, network 10 ms; front end 50 MB
// beside a TPU and 50 to 100 on a Nano, backend of a TPU model 100 MB.
constexpr double kTpuHostMs = 20, kGpuHostMs = 24, kNetworkMs = 10;
constexpr double kTpuModelMb = 100, kTpuFrontMb = 50, kGpuFrontMb = 50;
// Supposed, as nothing is published: a CPU device of 4 cores, each 6 times slower than the Nano's
// GPU, the same memory for a model as beside a TPU plus its weights in 32 bits.
constexpr double kCpuSlower = 6, kCpuModelMb = 300;
constexpr int kCpuCores = 4;

Distribution ms(double value) { return Distribution::constant(value * 1e3); }

profile::ModelProfile profile_of(const Known& m, const char* kind, double service_ms,
                                 double swap_ms, double host_ms, double model_mb, double front_mb,
                                 double factor) {
  profile::ModelProfile p;
  p.model = m.model;
  p.device_kind = kind;
  p.service = ms(service_ms);
  p.swap = ms(swap_ms);
  p.before = ms(host_ms);
  p.memory_bytes = static_cast<std::uint64_t>(model_mb * factor * 1e6);
  p.memory_per_application_bytes = static_cast<std::uint64_t>(front_mb * 1e6);
  return p;
}

// A stretch of the trace that starts at request `first` (it wraps), at the rate that is asked for.
std::vector<double> stretch(const WorkloadOptions& options, std::size_t first, double rate_per_s) {
  const auto& trace = options.trace_s;
  std::vector<double> times;
  double now = 0;
  for (std::size_t i = 0; i < options.trace_requests; ++i) {
    const std::size_t at = (first + i) % (trace.size() - 1);
    now += trace[at + 1] - trace[at];
    times.push_back(now);
  }
  const double length = times.back() - times.front();
  const double factor = static_cast<double>(times.size() - 1) / (rate_per_s * length);
  for (double& t : times) t *= factor;
  return times;
}

// Stretches of different applications are far apart, and an application's second follows its first.
std::size_t start_of(const WorkloadOptions& options, std::size_t number) {
  return number * 7919 % (options.trace_s.size() - 1);
}

}  // namespace

std::vector<double> later_arrivals(const WorkloadOptions& options, std::size_t number,
                                   double rate_per_s) {
  return stretch(options, start_of(options, number) + options.trace_requests, rate_per_s);
}

profile::Cluster make_workload(const WorkloadOptions& options) {
  profile::Cluster cluster;
  auto add = [&](const char* kind, int count, profile::Discipline discipline, int servers) {
    for (int i = 0; i < count; ++i) {
      profile::Device d;
      d.name = fmt::format("{}-{:02}", kind, i);
      d.kind = kind;
      d.discipline = discipline;
      d.servers = servers;
      d.memory_bytes = static_cast<std::uint64_t>(options.device_memory_bytes);
      d.network = ms(kNetworkMs);
      cluster.devices.push_back(std::move(d));
    }
  };
  add("edge-tpu", options.tpus, profile::Discipline::kFcfs, 1);
  add("nano", options.gpus, profile::Discipline::kTimeShared, 1);
  add("cpu", options.cpus, profile::Discipline::kFcfs, kCpuCores);
  std::vector<const Known*> usable;
  const double factor = options.model_memory_factor;
  for (const Known& m : kModels) {
    if ((m.tpu_ms > 0 && options.tpus > 0) || (m.gpu_ms > 0 && options.gpus + options.cpus > 0)) {
      usable.push_back(&m);
    }
    if (m.tpu_ms > 0) {
      cluster.models.push_back(profile_of(m, "edge-tpu", m.tpu_ms, m.tpu_swap_ms, kTpuHostMs,
                                          kTpuModelMb, kTpuFrontMb, factor));
    }
    if (m.gpu_ms > 0) {
      cluster.models.push_back(
          profile_of(m, "nano", m.gpu_ms, 0, kGpuHostMs, m.gpu_memory_mb, kGpuFrontMb, factor));
      cluster.models.push_back(profile_of(m, "cpu", m.gpu_ms * kCpuSlower, 0, kGpuHostMs,
                                          kCpuModelMb, kGpuFrontMb, factor));
    }
  }
  std::mt19937_64 random(options.seed);
  auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  for (std::size_t i = 0; i < options.applications; ++i) {
    const Known& m =
        *usable[static_cast<std::size_t>(uniform() * static_cast<double>(usable.size()))];
    profile::Application a;
    a.name = fmt::format("app-{:05}", i);
    a.model = m.model;
    a.rate_per_s =
        options.rate_least_per_s + uniform() * (options.rate_most_per_s - options.rate_least_per_s);
    a.limit = {options.percentile, m.limit_ms};
    a.share_model = options.share_models;
    if (!options.trace_s.empty()) {
      a.arrivals_s = stretch(options, start_of(options, i), a.rate_per_s);
    }
    cluster.applications.push_back(std::move(a));
  }
  return cluster;
}

}  // namespace outboard::bench
