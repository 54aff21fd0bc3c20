// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "base/memory.h"
#include "serve/shared.h"
#include "serve/worker/workers.h"

namespace outboard::serve {
namespace {

using nlohmann::json;

json to_json(const TimeWindow::Summary& summary) {
  return {{"samples", summary.count},
          {"mean_us", summary.mean_us},
          {"p50_us", summary.p50_us},
          {"p95_us", summary.p95_us},
          {"max_us", summary.max_us}};
}

json models_json(const Tenant& tenant) {
  json models = json::array();
  for (const Store::ModelRow& row : tenant.store().models())
    models.push_back({{"id", row.id.hex()},
                      {"files", row.files},
                      {"size_bytes", row.size_bytes},
                      {"in_use", row.pinned}});
  return models;
}

json sessions_json(const Tenant& tenant) {
  json sessions = json::array();
  for (const SessionPool::Row& row : tenant.sessions().rows())
    sessions.push_back({{"model", row.model.hex()},
                        {"users", row.users},
                        {"runs", row.runs},
                        {"open_ms", row.open_ms}});
  return sessions;
}

json store_json(const Tenant& tenant, bool with_folder) {
  const Store::Totals store = tenant.store().totals();
  json document = {{"models", store.models},
                   {"files", store.files},
                   {"used_bytes", store.used_bytes},
                   {"limit_bytes", store.limit_bytes}};
  if (with_folder) document["folder"] = tenant.store().folder();
  return document;
}

json limits_json(const TenantLimits& limits) {
  return {{"connections", limits.connections},
          {"sessions", limits.sessions},
          {"concurrent_runs", limits.concurrent_runs},
          {"in_flight_bytes", limits.in_flight_bytes},
          {"store_bytes", limits.store_bytes},
          {"device_memory_bytes", limits.device_memory_bytes},
          {"runs_per_s", limits.runs_per_s}};
}

// What was counted, of one tenant or of all.
void add_counters(json& document, const Statistics& s) {
  document.update({{"connections", s.connections.load()},
                   {"connections_total", s.connections_total.load()},
                   {"bad_connections", s.bad_connections.load()},
                   {"runs", s.runs.load()},
                   {"failed_runs", s.failed_runs.load()},
                   {"cancelled_runs", s.cancelled_runs.load()},
                   {"refused_runs", s.refused_runs.load()},
                   {"runs_in_flight", s.in_flight.load()},
                   {"bytes",
                    {{"received", s.bytes_received.load()},
                     {"sent", s.bytes_sent.load()},
                     {"uploaded", s.upload_bytes.load()},
                     {"in_flight", s.in_flight_bytes.load()}}},
                   {"queue_wait", to_json(s.queue.summary())},
                   {"compute", to_json(s.compute.summary())}});
}

json tenant_json(const Tenant& tenant) {
  const TenantSpec spec = tenant.spec();
  json document = {{"name", spec.name},
                   {"weight", spec.weight},
                   {"limits", limits_json(spec.limits)},
                   {"queue_depth", tenant.queue_depth()},
                   {"store", store_json(tenant, false)},
                   {"sessions", tenant.sessions().rows().size()}};
  add_counters(document, tenant.statistics());
  return document;
}

json workers_json(const Shared& shared) {
  json workers = json::array();
  if (!shared.workers) return workers;
  for (const Workers::Row& row : shared.workers->rows())
    workers.push_back({{"tenant", row.tenant},
                       {"pid", row.pid},
                       {"resident_bytes", row.resident_bytes},
                       {"sessions", row.sessions}});
  return workers;
}

// What only who runs the server may know.
void add_operators_view(json& document, const Shared& shared) {
  document["resident_bytes"] = resident_bytes();
  document["shared_memory"] = {{"connections", shared.statistics.shared_memory_connections.load()},
                               {"region_bytes", shared.shared_budget.own.used_bytes()},
                               {"limit_bytes", shared.settings.max_shared_bytes}};
  const Statistics& s = shared.statistics;
  document["coding"] = {{"tensor_bytes", s.coded_tensor_bytes.load()},
                        {"chunk_bytes", s.coded_chunk_bytes.load()},
                        {"known_bytes", s.known_bytes.load()},
                        {"known_hits", s.known_hits.load()},
                        {"known_misses", s.known_misses.load()},
                        {"known_limit_bytes", shared.settings.max_known_bytes}};
  document["workers"] = workers_json(shared);
  json tenants = json::array();
  for (const Tenant* tenant : shared.tenants.all()) tenants.push_back(tenant_json(*tenant));
  document["tenants"] = std::move(tenants);
}

}  // namespace

std::string status_json(const Shared& shared, const Tenant& tenant) {
  const bool all = tenant.is_local();
  const std::chrono::duration<double> uptime = Clock::monotonic().now() - shared.started;
  json document = {{"software", shared.settings.software},
                   {"server_id", shared.server_id},
                   {"uptime_s", uptime.count()},
                   {"draining", shared.draining.load()},
                   {"device", shared.engine->device()},
                   {"engine",
                    {{"name", shared.engine->name()},
                     {"version", shared.engine->version()},
                     {"providers", shared.engine->available_providers()}}},
                   {"slots", shared.settings.slots},
                   {"tenant", tenant.name()},
                   {"queue_depth", all ? shared.tenants.queue_depth() : tenant.queue_depth()},
                   {"store", store_json(tenant, all)},
                   {"models", models_json(tenant)},
                   {"sessions", sessions_json(tenant)}};
  add_counters(document, all ? shared.statistics : tenant.statistics());
  if (all) {
    add_operators_view(document, shared);
  } else {
    document["weight"] = tenant.spec().weight;
    document["limits"] = limits_json(tenant.spec().limits);
  }
  // A folder's name may be any bytes.
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace outboard::serve
