// SPDX-License-Identifier: Apache-2.0
#include "profile/json/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "profile/json/reader.h"

namespace outboard::profile {
namespace {

using nlohmann::json;

constexpr double kMaxRatePerS = 1e7;
constexpr double kMaxMemoryBytes = 1e15;
constexpr Discipline kDisciplines[] = {
    Discipline::kFcfs,     Discipline::kTimeShared, Discipline::kProcessorSharing,
    Discipline::kBatching, Discipline::kPriority,   Discipline::kEdf};

Discipline discipline_from(ObjectReader& read) {
  const std::string text = read.text("discipline", "fcfs");
  std::string names;
  for (Discipline d : kDisciplines) {
    if (text == name_of(d)) return d;
    names += (names.empty() ? "" : ", ") + std::string(name_of(d));
  }
  read.fail("discipline", "must be one of: " + names);
  return Discipline::kFcfs;
}

Result<Limit> limit_from(const json& value, const std::string& place) {
  ObjectReader read(value, place);
  Limit limit;
  limit.percentile = read.number("percentile", 95, 1, 99.99);
  limit.latency_ms = read.number("latency_ms", std::nullopt, 1e-3, 1e9);
  OB_CHECK_OK(read.finish());
  return limit;
}

Result<Burstiness> burstiness_from(const json& value, const std::string& place) {
  ObjectReader read(value, place);
  Burstiness burst;
  burst.gap_scv = read.number("gap_scv", 1, 0, 1e6);
  for (const auto& [item, where] : read.elements("idc")) {
    ObjectReader point(*item, where);
    burst.idc.push_back({point.number("window_s", std::nullopt, 1e-6, 1e6),
                         point.number("value", std::nullopt, 0, 1e6)});
    OB_CHECK_OK(point.finish());
  }
  OB_CHECK_OK(read.finish());
  return burst;
}

Result<std::vector<Replica>> replicas_from(ObjectReader& read) {
  std::vector<Replica> replicas;
  double sum = 0;
  for (const auto& [item, place] : read.elements("replicas")) {
    ObjectReader part(*item, place);
    replicas.push_back({part.text("device"), part.number("share", std::nullopt, 1e-6, 1)});
    OB_CHECK_OK(part.finish());
    sum += replicas.back().share;
  }
  if (!replicas.empty() && std::abs(sum - 1) > 1e-6) {
    read.fail("replicas", fmt::format("must have shares that sum to 1, and theirs is {:g}", sum));
  }
  return replicas;
}

// The rate that a trace has: n - 1 gaps over its length.
double rate_of(const std::vector<double>& arrivals_s) {
  return static_cast<double>(arrivals_s.size() - 1) / (arrivals_s.back() - arrivals_s.front());
}

// `device`, the replicas' devices and `pinned` must exist; what is on a device needs a profile
// there.
Result<void> check_devices(const Cluster& cluster, const Application& a, std::size_t i) {
  std::vector<std::pair<std::string, std::string>> named;  // place, device
  if (!a.device.empty()) named.emplace_back(fmt::format("applications[{}].device", i), a.device);
  for (std::size_t k = 0; k < a.replicas.size(); ++k) {
    named.emplace_back(fmt::format("applications[{}].replicas[{}].device", i, k),
                       a.replicas[k].device);
    for (std::size_t before = 0; before < k; ++before) {
      if (a.replicas[before].device != a.replicas[k].device) continue;
      return error(ErrorKind::kInvalid, "{} ({}) is used by a replica before it",
                   named.back().first, named.back().second);
    }
  }
  for (const auto& [place, name] : named) {
    const Device* device = cluster.device(name);
    if (!device) {
      return error(ErrorKind::kInvalid, "{} ({}) is not among the devices", place, name);
    }
    if (!cluster.model(a.model, device->kind)) {
      return error(ErrorKind::kInvalid,
                   "{} ({}) is of kind ({}), and models has no profile of ({}) for that kind",
                   place, name, device->kind, a.model);
    }
  }
  for (std::size_t k = 0; k < a.pinned.size(); ++k) {
    if (cluster.device(a.pinned[k])) continue;
    return error(ErrorKind::kInvalid, "applications[{}].pinned[{}] ({}) is not among the devices",
                 i, k, a.pinned[k]);
  }
  return {};
}

Result<void> check_names(const Cluster& cluster) {
  std::set<std::string> seen;
  for (std::size_t i = 0; i < cluster.devices.size(); ++i) {
    const Device& d = cluster.devices[i];
    if (!seen.insert(d.name).second) {
      return error(ErrorKind::kInvalid, "devices[{}].name ({}) is used by a device before it", i,
                   d.name);
    }
  }
  seen.clear();
  for (std::size_t i = 0; i < cluster.models.size(); ++i) {
    const ModelProfile& m = cluster.models[i];
    if (!seen.insert(m.model + '\n' + m.device_kind).second) {
      return error(ErrorKind::kInvalid,
                   "models[{}].model ({}) has a profile for device_kind ({}) before it", i, m.model,
                   m.device_kind);
    }
  }
  seen.clear();
  for (std::size_t i = 0; i < cluster.applications.size(); ++i) {
    const Application& a = cluster.applications[i];
    if (!seen.insert(a.name).second) {
      return error(ErrorKind::kInvalid,
                   "applications[{}].name ({}) is used by an application before it", i, a.name);
    }
    const bool known = std::any_of(cluster.models.begin(), cluster.models.end(),
                                   [&](const ModelProfile& m) { return m.model == a.model; });
    if (!known) {
      return error(ErrorKind::kInvalid, "applications[{}].model ({}) is not among the models", i,
                   a.model);
    }
    OB_CHECK_OK(check_devices(cluster, a, i));
  }
  return {};
}

}  // namespace

Result<Device> device_from_json(const json& value, const std::string& place) {
  ObjectReader read(value, place);
  Device device;
  device.name = read.text("name");
  device.kind = read.text("kind");
  device.discipline = discipline_from(read);
  device.servers = static_cast<int>(read.integer("servers", 1, 1, 1024));
  device.memory_bytes =
      static_cast<std::uint64_t>(read.number("memory_bytes", 0, 0, kMaxMemoryBytes));
  device.batch_wait_us = read.number("batch_wait_ms", 0, 0, 1e6) * 1e3;
  device.may_batch = read.flag("may_batch", false);
  device.network = read.times_ms("network_ms");
  OB_CHECK_OK(read.finish());
  return device;
}

Result<ModelProfile> model_from_json(const json& value, const std::string& place) {
  ObjectReader read(value, place);
  ModelProfile model;
  model.model = read.text("model");
  model.device_kind = read.text("device_kind");
  model.service = read.times_ms("service_ms", true);
  model.swap = read.times_ms("swap_ms");
  model.load = read.times_ms("load_ms");
  model.before = read.times_ms("before_ms");
  model.after = read.times_ms("after_ms");
  model.memory_bytes =
      static_cast<std::uint64_t>(read.number("memory_bytes", 0, 0, kMaxMemoryBytes));
  model.memory_per_application_bytes = static_cast<std::uint64_t>(
      read.number("memory_per_application_bytes", 0, 0, kMaxMemoryBytes));
  model.slow_down_per_other = read.number("slow_down_per_other", 1, 1, 100);
  if (read.has("service_ms") && model.service.min_us() <= 0) {
    read.fail("service_ms", "must be positive");
  }
  if (const json* batch = read.object("batch")) {
    ObjectReader inner(*batch, read.place_of("batch"));
    model.batch = BatchTime{inner.number("slope_ms", std::nullopt, 0, 1e9) * 1e3,
                            inner.number("base_ms", std::nullopt, 0, 1e9) * 1e3,
                            static_cast<int>(inner.integer("max_batch", std::nullopt, 1, 4096))};
    if (model.batch->slope_us + model.batch->base_us <= 0) {
      inner.fail("slope_ms", "and base_ms must not both be 0");
    }
    OB_CHECK_OK(inner.finish());
  }
  OB_CHECK_OK(read.finish());
  return model;
}

Result<Application> application_from_json(const json& value, const std::string& place) {
  ObjectReader read(value, place);
  Application app;
  app.name = read.text("name");
  app.model = read.text("model");
  app.device = read.text("device", "");
  app.priority = static_cast<int>(read.integer("priority", 0, -1000, 1000));
  app.arrivals_s = read.numbers("arrivals_s");
  if (!std::is_sorted(app.arrivals_s.begin(), app.arrivals_s.end())) {
    read.fail("arrivals_s", "must ascend");
  } else if (!app.arrivals_s.empty() &&
             (app.arrivals_s.size() < 2 || app.arrivals_s.back() <= app.arrivals_s.front())) {
    read.fail("arrivals_s", "must hold at least two different times");
  }
  if (app.arrivals_s.empty()) {
    app.rate_per_s = read.number("rate_per_s", std::nullopt, 1e-9, kMaxRatePerS);
  } else if (read.has("rate_per_s")) {
    read.fail("rate_per_s", "must not be given beside arrivals_s, which has its own rate");
  }
  app.pinned = read.texts("pinned");
  app.apart = read.text("apart", "");
  app.max_replicas = static_cast<int>(read.integer("max_replicas", 1, 1, 1024));
  app.share_model = read.flag("share_model", true);
  app.movable = read.flag("movable", true);
  OB_TRY(app.replicas, replicas_from(read));
  if (!app.replicas.empty() && !app.device.empty()) {
    read.fail("device", "must not be given beside replicas, which have their own");
  }
  if (const json* limit = read.object("limit")) {
    OB_TRY(app.limit, limit_from(*limit, read.place_of("limit")));
  }
  if (const json* burst = read.object("burstiness")) {
    OB_TRY(app.burstiness, burstiness_from(*burst, read.place_of("burstiness")));
  }
  OB_CHECK_OK(read.finish());
  if (!app.arrivals_s.empty()) app.rate_per_s = rate_of(app.arrivals_s);
  return app;
}

Result<Cluster> cluster_from_text(std::string_view text, std::string_view name) {
  OB_TRY(const json root, parse_json(text, name));
  ObjectReader read(root, "");
  Cluster cluster;
  for (const auto& [item, place] : read.elements("devices")) {
    OB_TRY(Device device, device_from_json(*item, place));
    cluster.devices.push_back(std::move(device));
  }
  for (const auto& [item, place] : read.elements("models")) {
    OB_TRY(ModelProfile model, model_from_json(*item, place));
    cluster.models.push_back(std::move(model));
  }
  for (const auto& [item, place] : read.elements("applications")) {
    OB_TRY(Application app, application_from_json(*item, place));
    cluster.applications.push_back(std::move(app));
  }
  // What `outboard profile` writes beside them.
  for (const char* other : {"engine", "interrupted", "links", "measurements", "round_trip_ms"}) {
    read.ignore(other);
  }
  OB_CHECK_OK(read.finish());
  OB_CHECK_OK(check_names(cluster));
  return cluster;
}

json as_json(const Device& device) {
  return {{"name", device.name},
          {"kind", device.kind},
          {"discipline", name_of(device.discipline)},
          {"servers", device.servers},
          {"memory_bytes", device.memory_bytes},
          {"batch_wait_ms", device.batch_wait_us / 1e3},
          {"may_batch", device.may_batch},
          {"network_ms", as_json(device.network)}};
}

json as_json(const ModelProfile& model) {
  json result = {{"model", model.model},
                 {"device_kind", model.device_kind},
                 {"service_ms", as_json(model.service)},
                 {"swap_ms", as_json(model.swap)},
                 {"load_ms", as_json(model.load)},
                 {"before_ms", as_json(model.before)},
                 {"after_ms", as_json(model.after)},
                 {"memory_bytes", model.memory_bytes},
                 {"memory_per_application_bytes", model.memory_per_application_bytes},
                 {"slow_down_per_other", model.slow_down_per_other}};
  if (model.batch) {
    result["batch"] = {{"slope_ms", model.batch->slope_us / 1e3},
                       {"base_ms", model.batch->base_us / 1e3},
                       {"max_batch", model.batch->max_batch}};
  }
  return result;
}

json as_json(const Application& app) {
  json result = {{"name", app.name}, {"model", app.model}, {"priority", app.priority}};
  if (!app.device.empty()) result["device"] = app.device;
  for (const Replica& part : app.replicas) {
    result["replicas"].push_back({{"device", part.device}, {"share", part.share}});
  }
  if (!app.pinned.empty()) result["pinned"] = app.pinned;
  if (!app.apart.empty()) result["apart"] = app.apart;
  if (app.max_replicas != 1) result["max_replicas"] = app.max_replicas;
  if (!app.share_model) result["share_model"] = false;
  if (!app.movable) result["movable"] = false;
  if (app.arrivals_s.empty()) {
    result["rate_per_s"] = app.rate_per_s;
  } else {
    result["arrivals_s"] = app.arrivals_s;
  }
  if (app.limit.latency_ms > 0) {
    result["limit"] = {{"percentile", app.limit.percentile}, {"latency_ms", app.limit.latency_ms}};
  }
  if (app.burstiness != Burstiness{}) {
    json idc = json::array();
    for (const auto& point : app.burstiness.idc) {
      idc.push_back({{"window_s", point.window_s}, {"value", point.value}});
    }
    result["burstiness"] = {{"gap_scv", app.burstiness.gap_scv}, {"idc", idc}};
  }
  return result;
}

json as_json(const Cluster& cluster) {
  json result = {
      {"devices", json::array()}, {"models", json::array()}, {"applications", json::array()}};
  for (const auto& device : cluster.devices) result["devices"].push_back(as_json(device));
  for (const auto& model : cluster.models) result["models"].push_back(as_json(model));
  for (const auto& app : cluster.applications) result["applications"].push_back(as_json(app));
  return result;
}

}  // namespace outboard::profile
