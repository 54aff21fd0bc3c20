// SPDX-License-Identifier: Apache-2.0
#include "cli/status_table.h"

#include "cli/status_values.h"

#include <fmt/format.h>

namespace outboard::cli {
namespace {

std::string times(const json& document, const char* name) {
  return fmt::format("mean {}, p95 {} (latest {} Runs)", time(at(document, {name, "mean_us"})),
                     time(at(document, {name, "p95_us"})), text(at(document, {name, "samples"})));
}

void add_models(const json& document, std::string& table) {
  const json& models = at(document, {"models"});
  const json& sessions = at(document, {"sessions"});
  if (!models.is_array() || models.empty()) return;
  table += fmt::format("\n{:<14}{:>12}{:>10}{:>8}{:>12}{:>12}\n", "model", "size", "sessions",
                       "users", "Runs", "open");
  for (const json& model : models) {
    const std::string id = text(at(model, {"id"}));
    std::uint64_t open = 0, users = 0, runs = 0;
    double open_ms = 0;
    for (const json& session : sessions) {
      if (text(at(session, {"model"})) != id) continue;
      ++open;
      users += at(session, {"users"}).is_number() ? at(session, {"users"}).get<std::uint64_t>() : 0;
      runs += at(session, {"runs"}).is_number() ? at(session, {"runs"}).get<std::uint64_t>() : 0;
      if (at(session, {"open_ms"}).is_number()) open_ms = at(session, {"open_ms"}).get<double>();
    }
    table += fmt::format("{:<14}{:>12}{:>10}{:>8}{:>12}{:>12}\n", id.substr(0, 12),
                         bytes(at(model, {"size_bytes"})), open, users, runs,
                         open > 0 ? time(open_ms * 1e3) : "-");
  }
}

}  // namespace

Result<std::string> status_table(std::string_view json_text) {
  const json document = json::parse(json_text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object())
    return error(ErrorKind::kInvalid, "the server's status must be a JSON object");
  std::string table;
  const auto row = [&](std::string_view name, const std::string& value) {
    table += fmt::format("{:<14}{}\n", name, value);
  };
  const json& draining = at(document, {"draining"});
  row("software", text(at(document, {"software"})) +
                      (draining.is_boolean() && draining.get<bool>() ? ", draining" : ""));
  row("device", text(at(document, {"device"})));
  row("engine",
      text(at(document, {"engine", "name"})) + " " + text(at(document, {"engine", "version"})));
  row("uptime", uptime(at(document, {"uptime_s"})));
  row("memory", bytes(at(document, {"resident_bytes"})));
  row("connections",
      fmt::format("{}, {} of them with shared memory ({})", text(at(document, {"connections"})),
                  text(at(document, {"shared_memory", "connections"})),
                  bytes(at(document, {"shared_memory", "region_bytes"}))));
  row("Runs",
      fmt::format("{} done, {} failed, {} cancelled, {} refused, {} under way",
                  text(at(document, {"runs"})), text(at(document, {"failed_runs"})),
                  text(at(document, {"cancelled_runs"})), text(at(document, {"refused_runs"})),
                  text(at(document, {"runs_in_flight"}))));
  row("queue wait", times(document, "queue_wait"));
  row("compute", times(document, "compute"));
  row("bytes", fmt::format("{} received, {} sent", bytes(at(document, {"bytes", "received"})),
                           bytes(at(document, {"bytes", "sent"}))));
  row("store", fmt::format("{} models, {} of {} in {}", text(at(document, {"store", "models"})),
                           bytes(at(document, {"store", "used_bytes"})),
                           bytes(at(document, {"store", "limit_bytes"})),
                           text(at(document, {"store", "folder"}))));
  add_models(document, table);
  return table;
}

}  // namespace outboard::cli
