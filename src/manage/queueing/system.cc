// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/system.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace outboard::manage {

using profile::Discipline;

double System::utilisation() const {
  double total = 0;
  std::map<int, double> of_model;
  for (const Stream& s : streams) {
    total += s.rate_per_s;
    of_model[s.model] += s.rate_per_s;
  }
  const bool swaps = discipline == Discipline::kFcfs || discipline == Discipline::kPriority ||
                     discipline == Discipline::kEdf || discipline == Discipline::kBatching;
  double busy = 0;
  for (const Stream& s : streams) {
    double time_us = s.service.mean_us();
    if (swaps) time_us += (1 - of_model[s.model] / total) * s.swap.mean_us();
    if (discipline == Discipline::kBatching && s.batch) {
      time_us = s.batch->slope_us + s.batch->base_us / s.batch->max_batch;
    }
    busy += s.rate_per_s * 1e-6 * time_us;
  }
  return busy / servers;
}

namespace {

// The share of an application's requests that a device gets: a replica's, else all.
double share_on(const profile::Application& app, const profile::Device& device) {
  for (const profile::Replica& replica : app.replicas) {
    if (replica.device == device.name) return replica.share;
  }
  return 1;
}

bool is_on(const profile::Application& app, const profile::Device& device) {
  return app.device == device.name ||
         std::any_of(app.replicas.begin(), app.replicas.end(),
                     [&](const profile::Replica& r) { return r.device == device.name; });
}

}  // namespace

Result<System> system_of(const profile::Cluster& cluster, const profile::Device& device,
                         std::span<const profile::Application* const> residents) {
  System system{device.discipline, device.servers, device.batch_wait_us, {}};
  std::map<std::string, int> numbers;
  for (const profile::Application* app : residents) {
    const profile::ModelProfile* model = cluster.model(app->model, device.kind);
    if (!model) {
      return error(ErrorKind::kNotFound,
                   "application ({}) needs a profile of model ({}) for device kind ({})", app->name,
                   app->model, device.kind);
    }
    Stream stream;
    stream.name = app->name;
    // A model that is not shared is a copy of its own, named as no other can be.
    const std::string copy = app->share_model ? app->model : app->model + '\n' + app->name;
    stream.model = numbers.try_emplace(copy, static_cast<int>(numbers.size())).first->second;
    stream.rate_per_s = app->rate_per_s * share_on(*app, device);
    stream.service = model->service;
    stream.swap = model->swap;
    stream.outside = convolve(convolve(model->before, model->after), device.network);
    stream.limit = app->limit;
    stream.priority = app->priority;
    stream.slow_down_per_other = model->slow_down_per_other;
    stream.batch = model->batch;
    stream.arrivals_s = app->arrivals_s;
    stream.burstiness = app->burstiness;
    system.streams.push_back(std::move(stream));
  }
  return system;
}

Result<System> system_of(const profile::Cluster& cluster, const profile::Device& device) {
  std::vector<const profile::Application*> residents;
  for (const profile::Application& app : cluster.applications) {
    if (is_on(app, device)) residents.push_back(&app);
  }
  return system_of(cluster, device, residents);
}

Result<void> check_system(const System& system) {
  if (system.streams.empty()) return error(ErrorKind::kInvalid, "the device has no application");
  for (const Stream& s : system.streams) {
    if (!(s.rate_per_s > 0) || !std::isfinite(s.rate_per_s)) {
      return error(ErrorKind::kInvalid,
                   "rate ({} per s) of application ({}) must be positive and finite", s.rate_per_s,
                   s.name);
    }
    if (!(s.service.min_us() > 0)) {
      return error(ErrorKind::kInvalid, "service time ({} us) of application ({}) must be positive",
                   s.service.min_us(), s.name);
    }
    if (system.discipline == Discipline::kBatching && !s.batch) {
      return error(ErrorKind::kInvalid,
                   "application ({}) is on a device that batches, and its model has no batch times",
                   s.name);
    }
  }
  if (const double rho = system.utilisation(); !(rho < 1)) {
    return error(ErrorKind::kInvalid,
                 "the load is unstable: utilisation ({:.3f}) must be less than 1", rho);
  }
  return {};
}

}  // namespace outboard::manage
