// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "base/memory.h"
#include "serve/shared.h"

namespace outboard::serve {
namespace {

using nlohmann::json;

json to_json(const TimeWindow::Summary& summary) {
  return {{"samples", summary.count},
          {"mean_us", summary.mean_us},
          {"p95_us", summary.p95_us},
          {"max_us", summary.max_us}};
}

json models_json(const Shared& shared) {
  json models = json::array();
  for (const Store::ModelRow& row : shared.store->models())
    models.push_back({{"id", row.id.hex()},
                      {"files", row.files},
                      {"size_bytes", row.size_bytes},
                      {"in_use", row.pinned}});
  return models;
}

json sessions_json(const Shared& shared) {
  json sessions = json::array();
  for (const SessionPool::Row& row : shared.sessions.rows())
    sessions.push_back({{"model", row.model.hex()},
                        {"users", row.users},
                        {"runs", row.runs},
                        {"open_ms", row.open_ms}});
  return sessions;
}

}  // namespace

std::string status_json(const Shared& shared) {
  const Statistics& s = shared.statistics;
  const Store::Totals store = shared.store->totals();
  const std::chrono::duration<double> uptime = Clock::monotonic().now() - shared.started;
  const json document = {{"software", shared.settings.software},
                         {"server_id", shared.server_id},
                         {"uptime_s", uptime.count()},
                         {"resident_bytes", resident_bytes()},
                         {"draining", shared.draining.load()},
                         {"device", shared.engine->device()},
                         {"engine",
                          {{"name", shared.engine->name()},
                           {"version", shared.engine->version()},
                           {"providers", shared.engine->available_providers()}}},
                         {"slots", shared.settings.slots},
                         {"connections", s.connections.load()},
                         {"connections_total", s.connections_total.load()},
                         {"bad_connections", s.bad_connections.load()},
                         {"runs", s.runs.load()},
                         {"failed_runs", s.failed_runs.load()},
                         {"cancelled_runs", s.cancelled_runs.load()},
                         {"refused_runs", s.refused_runs.load()},
                         {"runs_in_flight", s.in_flight.load()},
                         {"queue_depth", shared.queue.depth()},
                         {"bytes",
                          {{"received", s.bytes_received.load()},
                           {"sent", s.bytes_sent.load()},
                           {"uploaded", s.upload_bytes.load()},
                           {"in_flight", s.in_flight_bytes.load()}}},
                         {"queue_wait", to_json(s.queue.summary())},
                         {"compute", to_json(s.compute.summary())},
                         {"store",
                          {{"folder", shared.store->folder()},
                           {"models", store.models},
                           {"files", store.files},
                           {"used_bytes", store.used_bytes},
                           {"limit_bytes", store.limit_bytes}}},
                         {"models", models_json(shared)},
                         {"sessions", sessions_json(shared)}};
  // A folder's name may be any bytes.
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace outboard::serve
