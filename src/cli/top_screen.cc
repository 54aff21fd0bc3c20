// SPDX-License-Identifier: Apache-2.0
#include "cli/top_screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "cli/status_values.h"

namespace outboard::cli {
namespace {

double number(const json& value) { return value.is_number() ? value.get<double>() : 0; }

// What changed between two documents of one server, a second.
class Rates {
 public:
  Rates(const json& earlier, const json& now)
      : earlier_(earlier),
        now_(now),
        seconds_(number(at(now, {"uptime_s"})) - number(at(earlier, {"uptime_s"}))) {
    known_ =
        earlier.is_object() && at(earlier, {"server_id"}) == at(now, {"server_id"}) && seconds_ > 0;
  }

  std::string of(std::initializer_list<const char*> path) const {
    return known_ ? count(number(at(now_, path)) - number(at(earlier_, path))) : "-";
  }
  std::string bytes_of(std::initializer_list<const char*> path) const {
    if (!known_) return "-";
    return bytes(json(std::max(0.0, number(at(now_, path)) - number(at(earlier_, path))) /
                      seconds_)) +
           "/s";
  }
  std::string count(double more) const {
    return known_ ? fmt::format("{:.1f}/s", std::max(0.0, more) / seconds_) : "-";
  }
  bool known() const { return known_; }
  const json& earlier() const { return earlier_; }

 private:
  const json& earlier_;
  const json& now_;
  double seconds_;
  bool known_ = false;
};

using Lines = std::vector<std::string>;

void add_summary(const TopScreen& screen, const json& now, const Rates& rates, Lines& lines) {
  const json& draining = at(now, {"draining"});
  lines.push_back(fmt::format("{}  {}  {}  {} {}  up {}{}", screen.address,
                              text(at(now, {"software"})), text(at(now, {"device"})),
                              text(at(now, {"engine", "name"})),
                              text(at(now, {"engine", "version"})), uptime(at(now, {"uptime_s"})),
                              draining.is_boolean() && draining.get<bool>() ? "  DRAINING" : ""));
  lines.push_back(fmt::format("Runs      {:>12}  failed {:>8}  refused {:>8}  cancelled {:>8}",
                              rates.of({"runs"}), rates.of({"failed_runs"}),
                              rates.of({"refused_runs"}), rates.of({"cancelled_runs"})));
  lines.push_back(fmt::format("queue     {:>12}  of {} slots, {} Runs under way, {} connections",
                              text(at(now, {"queue_depth"})), text(at(now, {"slots"})),
                              text(at(now, {"runs_in_flight"})), text(at(now, {"connections"}))));
  lines.push_back(fmt::format("bytes     {:>12} in  {:>12} out   memory {}   store {} of {}",
                              rates.bytes_of({"bytes", "received"}),
                              rates.bytes_of({"bytes", "sent"}), bytes(at(now, {"resident_bytes"})),
                              bytes(at(now, {"store", "used_bytes"})),
                              bytes(at(now, {"store", "limit_bytes"}))));
}

// Where the time of the latest Runs went: waiting for the device, or computing.
void add_times(const json& now, Lines& lines) {
  const double wait = number(at(now, {"queue_wait", "mean_us"})),
               compute = number(at(now, {"compute", "mean_us"}));
  const double total = wait + compute;
  for (const auto& [title, name] : {std::pair{"wait", "queue_wait"}, {"compute", "compute"}}) {
    const double share = total > 0 ? number(at(now, {name, "mean_us"})) / total : 0;
    lines.push_back(
        fmt::format("{:<10}p50 {:>9}  p95 {:>9}  max {:>9}  {:>4.0f} % {}", title,
                    time(at(now, {name, "p50_us"})), time(at(now, {name, "p95_us"})),
                    time(at(now, {name, "max_us"})), share * 100,
                    std::string(static_cast<std::size_t>(std::lround(share * 20)), '#')));
  }
}

// The operator sees all tenants; a tenant's own document has none.
void add_tenants(const json& now, const Rates& rates, Lines& lines) {
  const json& tenants = at(now, {"tenants"});
  if (!tenants.is_array() || tenants.size() < 2) return;
  std::map<std::string, double> earlier;
  if (rates.known())
    for (const json& tenant : at(rates.earlier(), {"tenants"}))
      earlier[text(at(tenant, {"name"}))] = number(at(tenant, {"runs"}));
  lines.push_back("");
  lines.push_back(fmt::format("{:<20}{:>7}{:>9}{:>7}{:>11}{:>9}{:>11}{:>11}", "TENANT", "weight",
                              "sessions", "queue", "Runs/s", "refused", "wait p95", "store"));
  for (const json& tenant : tenants) {
    const std::string name = text(at(tenant, {"name"}));
    lines.push_back(fmt::format("{:<20}{:>7}{:>9}{:>7}{:>11}{:>9}{:>11}{:>11}", name.substr(0, 19),
                                text(at(tenant, {"weight"})), text(at(tenant, {"sessions"})),
                                text(at(tenant, {"queue_depth"})),
                                rates.count(number(at(tenant, {"runs"})) - earlier[name]),
                                text(at(tenant, {"refused_runs"})),
                                time(at(tenant, {"queue_wait", "p95_us"})),
                                bytes(at(tenant, {"store", "used_bytes"}))));
  }
}

struct ModelRow {
  double users = 0, runs = 0, size_bytes = 0;
};

std::map<std::string, ModelRow> models_of(const json& document) {
  std::map<std::string, ModelRow> rows;
  for (const json& model : at(document, {"models"}))
    rows[text(at(model, {"id"}))].size_bytes = number(at(model, {"size_bytes"}));
  for (const json& session : at(document, {"sessions"})) {
    ModelRow& row = rows[text(at(session, {"model"}))];
    row.users += number(at(session, {"users"}));
    row.runs += number(at(session, {"runs"}));
  }
  return rows;
}

void add_models(const json& now, const Rates& rates, Lines& lines) {
  std::map<std::string, ModelRow> earlier;
  if (rates.known()) earlier = models_of(rates.earlier());
  const auto models = models_of(now);
  std::vector<std::pair<std::string, ModelRow>> rows(models.begin(), models.end());
  const auto more = [&](const auto& row) { return row.second.runs - earlier[row.first].runs; };
  std::sort(rows.begin(), rows.end(), [&](const auto& a, const auto& b) {
    const std::pair of_a(more(a), a.second.runs), of_b(more(b), b.second.runs);
    return of_a != of_b ? of_a > of_b : a.first < b.first;
  });
  lines.push_back("");
  lines.push_back(
      fmt::format("{:<14}{:>12}{:>8}{:>12}{:>12}", "MODEL", "size", "users", "Runs", "Runs/s"));
  for (const auto& row : rows)
    lines.push_back(fmt::format("{:<14}{:>12}{:>8.0f}{:>12.0f}{:>12}", row.first.substr(0, 12),
                                bytes(json(row.second.size_bytes)), row.second.users,
                                row.second.runs, rates.count(more(row))));
}

}  // namespace

Result<std::string> top_screen(const TopScreen& screen) {
  const json now = json::parse(screen.now, nullptr, /*allow_exceptions=*/false);
  const json earlier =
      screen.earlier.empty() ? json() : json::parse(screen.earlier, nullptr, false);
  if (!now.is_object() || earlier.is_discarded())
    return error(ErrorKind::kInvalid, "the server's status must be a JSON object");
  const Rates rates(earlier, now);
  Lines lines;
  add_summary(screen, now, rates, lines);
  add_times(now, lines);
  add_tenants(now, rates, lines);
  add_models(now, rates, lines);
  std::string all;
  for (std::size_t i = 0; i < std::min(lines.size(), screen.rows); ++i)
    all += lines[i].substr(0, screen.columns) + '\n';
  return all;
}

}  // namespace outboard::cli
