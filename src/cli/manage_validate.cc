// SPDX-License-Identifier: Apache-2.0
// `outboard manage validate`: the models against published requests.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/manage_verbs.h"
#include "cli/verbs.h"
#include "manage/measured/validate.h"
#include "profile/json/cluster.h"

namespace outboard::cli {
namespace {

using manage::Compared;
using manage::Validation;
using manage::ValidationPoint;
using nlohmann::json;

struct Quantity {
  const char* name;
  Compared ValidationPoint::* what;
};
constexpr Quantity kQuantities[] = {{"mean", &ValidationPoint::mean},
                                    {"p50", &ValidationPoint::p50},
                                    {"p95", &ValidationPoint::p95},
                                    {"p99", &ValidationPoint::p99}};

json as_json(const Compared& c) {
  return {{"predicted_ms", c.predicted_ms},
          {"measured_ms", c.measured_ms},
          {"error_percent", c.error_percent()}};
}

json as_json(const Validation& validation) {
  json points = json::array(), concurrency = json::array(), mape = json::object();
  for (const ValidationPoint& p : validation.points) {
    json point = {{"file", p.file},
                  {"load", p.load},
                  {"model", p.model},
                  {"rate_per_s", p.rate_per_s},
                  {"utilisation", p.utilisation},
                  {"requests", p.requests},
                  {"share_over_predicted_mean", p.over_mean},
                  {"share_over_predicted_p95", p.over_p95}};
    for (const Quantity& q : kQuantities) point[q.name] = as_json(p.*q.what);
    points.push_back(std::move(point));
  }
  for (const auto& c : validation.concurrency) {
    json point = as_json(c.mean);
    point["file"] = c.file;
    point["model"] = c.model;
    concurrency.push_back(std::move(point));
  }
  for (const Quantity& q : kQuantities) mape[q.name] = validation.mape_percent(q.what);
  return {{"points", points},
          {"mape_percent", mape},
          {"concurrency", concurrency},
          {"skipped", validation.skipped}};
}

void print_table(const Validation& validation) {
  if (!validation.points.empty()) {
    std::printf("%-20s %5s %7s %5s %6s", "model", "load", "rate/s", "util", "n");
    for (const Quantity& q : kQuantities) std::printf("  %19s", q.name);
    std::printf("\n%48s", "");
    for (int i = 0; i < 4; ++i) std::printf("  %19s", "model/real ms error");
    std::puts("");
  }
  for (const ValidationPoint& p : validation.points) {
    std::printf("%-20s %5s %7.2f %5.2f %6zu", p.model.c_str(), p.load.c_str(), p.rate_per_s,
                p.utilisation, p.requests);
    for (const Quantity& q : kQuantities) {
      const Compared& c = p.*q.what;
      std::printf("  %6.1f/%6.1f %+5.1f", c.predicted_ms, c.measured_ms, c.error_percent());
    }
    std::puts("");
  }
  if (!validation.points.empty()) {
    std::printf("\nmean absolute error over %zu points (%%):", validation.points.size());
    for (const Quantity& q : kQuantities) {
      std::printf("  %s %.2f", q.name, validation.mape_percent(q.what));
    }
    std::puts("");
  }
  for (const auto& c : validation.concurrency) {
    std::printf("%-32s %-18s together %7.2f ms, predicted %7.2f (%+.1f %%)\n", c.file.c_str(),
                c.model.c_str(), c.mean.measured_ms, c.mean.predicted_ms, c.mean.error_percent());
  }
  for (const auto& name : validation.skipped) {
    std::fprintf(stderr, "outboard: %s is a table of another format; skipped\n", name.c_str());
  }
}

Result<void> run(const std::string& folder, const std::string& profiles, bool as_json_text) {
  auto models = manage::published_profiles();
  if (!profiles.empty()) {
    OB_TRY(const std::string text, read_text(profiles));
    OB_TRY(auto cluster, profile::cluster_from_text(text, profiles));
    models = std::move(cluster.models);
  }
  OB_TRY(const Validation validation, manage::validate(folder, models));
  if (as_json_text) {
    std::puts(as_json(validation).dump(2).c_str());
  } else {
    print_table(validation);
  }
  return {};
}

struct Arguments {
  std::string folder, profiles;
  bool json = false;
};

}  // namespace

void add_manage_validate(CLI::App& manage, int& exit_code) {
  auto* verb = manage.add_subcommand(
      "validate",
      "Compare the models with published requests, nothing fitted, and print the errors");
  auto arguments = std::make_shared<Arguments>();
  verb->add_option(
          "DIR", arguments->folder,
          "Folder with .csv or .csv.gz files of timed requests (columns model, input_rate, "
          "vary_rho, start_time, end_time)")
      ->required();
  verb->add_option(
      "--profiles", arguments->profiles,
      "Cluster file whose models are used in place of the published edge TPU profiles");
  verb->add_flag("--json", arguments->json, "Print points and mape_percent as JSON");
  verb->callback([arguments, &exit_code] {
    const auto done = run(arguments->folder, arguments->profiles, arguments->json);
    if (!done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
