// SPDX-License-Identifier: Apache-2.0
#include "cli/manage_fleet.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/manage_verbs.h"
#include "manage/place/explain.h"
#include "profile/json/cluster.h"

namespace outboard::cli {

using nlohmann::json;

void add_fleet_options(CLI::App& verb, FleetArguments& a) {
  verb.add_option("CLUSTER", a.cluster,
                  "Cluster file: devices, models, applications; an application with a device (or "
                  "replicas) is in place already")
      ->required();
  verb.add_option("--margin", a.margin_percent, "Percent of every limit that must stay free")
      ->check(CLI::Range(0.0, 90.0))
      ->capture_default_str();
  verb.add_option("--memory", a.memory_percent, "Percent of a device's memory that may be used")
      ->check(CLI::Range(1.0, 100.0))
      ->capture_default_str();
  verb.add_option("--survive", a.placer.survive,
                  "How many devices may be lost with every limit still kept: 0 or 1")
      ->check(CLI::Range(0, 1))
      ->capture_default_str();
  verb.add_option("--moves", a.placer.moves,
                  "How many residents may be moved to make room for one application: 0 to 2")
      ->check(CLI::Range(0, 2))
      ->capture_default_str();
  verb.add_option("--requests", a.requests,
                  "Requests that a prediction is drawn from where it has to be simulated")
      ->check(CLI::Range(1000, 10000000))
      ->capture_default_str();
  verb.add_flag("--json", a.json, "Print JSON");
}

PlacingFleet::PlacingFleet(manage::Fleet from, const FleetArguments& arguments)
    : fleet(std::move(from)),
      queue(arguments.requests),
      judge(queue),
      placer(fleet, judge, arguments.placer) {}

Result<void> PlacingFleet::reserve() {
  if (const auto obstacle = placer.reserve_all()) {
    return error(ErrorKind::kRefused,
                 "what is in place does not survive the loss of device ({}): no other device could "
                 "take ({}) in",
                 obstacle->lost, obstacle->application);
  }
  return {};
}

Result<std::unique_ptr<PlacingFleet>> open_fleet(FleetArguments& arguments) {
  arguments.placer.promise.margin = arguments.margin_percent / 100;
  arguments.placer.promise.memory_fraction = arguments.memory_percent / 100;
  OB_TRY(const std::string text, read_text(arguments.cluster));
  OB_TRY(profile::Cluster cluster, profile::cluster_from_text(text, arguments.cluster));
  OB_TRY(manage::Fleet fleet, manage::Fleet::of(std::move(cluster)));
  return std::make_unique<PlacingFleet>(std::move(fleet), arguments);
}

json as_json(const manage::Slack& s) {
  const bool limited = s.limit_ms > 0;
  return {{"application", s.application},
          {"device", s.device},
          {"share", s.share},
          {"percentile", s.percentile},
          {"predicted_ms", std::isfinite(s.predicted_ms) ? json(s.predicted_ms) : json()},
          {"error_ms", s.error_ms},
          {"limit_ms", limited ? json(s.limit_ms) : json()},
          {"slack_ms", limited && std::isfinite(s.slack_ms) ? json(s.slack_ms) : json()},
          {"p_late", s.late}};
}

json as_json(const manage::Obstacle& o, const std::string& newcomer) {
  json result = {{"device", o.device}, {"sentence", manage::sentence(o, newcomer)}};
  if (!o.application.empty()) result["application"] = o.application;
  if (!o.lost.empty()) result["lost"] = o.lost;
  if (o.breach == manage::Breach::kLatency) {
    result["percentile"] = o.percentile;
    result["predicted_ms"] = o.predicted_ms;
    result["limit_ms"] = o.limit_ms;
    if (o.term_ms > 0) {
      result["term"] = name_of(o.term);
      result["term_ms"] = o.term_ms;
    }
  }
  return result;
}

json as_json(const manage::Decision& d) {
  json result = {{"application", d.application}, {"placed", d.placed}};
  for (const auto& r : d.where) {
    result["where"].push_back({{"device", r.device}, {"share", r.share}});
  }
  for (const auto& m : d.moves) {
    result["moves"].push_back({{"application", m.application}, {"from", m.from}, {"to", m.to}});
  }
  for (const auto& s : d.settings) {
    result["settings"].push_back({{"device", s.name},
                                  {"discipline", name_of(s.discipline)},
                                  {"batch_wait_ms", s.batch_wait_us * 1e-3}});
  }
  for (const auto& s : d.slacks) result["slacks"].push_back(as_json(s));
  for (const auto& o : d.obstacles) result["obstacles"].push_back(as_json(o, d.application));
  if (d.advice) {
    const auto& a = *d.advice;
    json advice = {{"idle_kinds", a.idle_kinds}};
    advice["highest_rate_per_s"] = a.highest_rate_per_s;
    advice["highest_rate_device"] = a.highest_rate_device;
    advice["loosest_limit_ms"] = a.loosest_limit_ms > 0 ? json(a.loosest_limit_ms) : json();
    for (const auto& m : a.moves) {
      advice["moves"].push_back({{"application", m.application}, {"from", m.from}, {"to", m.to}});
    }
    result["advice"] = advice;
  }
  result["sentence"] = manage::sentences(d);
  return result;
}

}  // namespace outboard::cli
