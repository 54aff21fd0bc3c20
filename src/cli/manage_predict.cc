// SPDX-License-Identifier: Apache-2.0
// `outboard manage predict`: what every application of a cluster will see.
#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/manage_verbs.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "manage/measured/table.h"
#include "manage/plot/cdf_plot.h"
#include "manage/queueing/predict.h"
#include "profile/json/cluster.h"

namespace outboard::cli {
namespace {

using manage::Answer;
using manage::StreamAnswer;
using manage::System;
using nlohmann::json;
using profile::Application;
using profile::Cluster;

struct Arguments {
  std::string cluster, plot, measured;
  std::vector<std::string> added;
  bool json = false, quick = false, replay = false;
  std::uint64_t seed = 1;
};

struct Predicted {
  const profile::Device* device;
  System system;
  Answer answer;
};

// Response times (us) of an application.
using Measured = std::map<std::string, std::vector<double>>;

Result<double> number_of(std::string_view text, const std::string& whole) {
  double value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc{} || end != text.data() + text.size() || !(value > 0) ||
      !std::isfinite(value)) {
    return error(
        ErrorKind::kInvalid,
        "--add ({}): ({}) must be a positive number; expected MODEL=RATE[,MS[@PERCENTILE]]", whole,
        text);
  }
  return value;
}

// "MODEL=RATE[,MS[@PERCENTILE]]", on the only device of the file.
Result<void> add(const std::string& text, Cluster& cluster) {
  const auto equals = text.rfind('=');
  if (equals == std::string::npos || cluster.devices.size() != 1) {
    return error(
        ErrorKind::kInvalid,
        "--add ({}) must be MODEL=RATE[,MS[@PERCENTILE]] and the file must have one device "
        "(it has {})",
        text, cluster.devices.size());
  }
  Application app;
  app.model = text.substr(0, equals);
  app.device = cluster.devices[0].name;
  std::string_view rest = std::string_view(text).substr(equals + 1);
  const auto comma = rest.find(',');
  OB_TRY(app.rate_per_s, number_of(rest.substr(0, comma), text));
  if (comma != std::string_view::npos) {
    rest.remove_prefix(comma + 1);
    const auto at = rest.find('@');
    OB_TRY(app.limit.latency_ms, number_of(rest.substr(0, at), text));
    if (at != std::string_view::npos) {
      OB_TRY(app.limit.percentile, number_of(rest.substr(at + 1), text));
      if (app.limit.percentile >= 100) {
        return error(ErrorKind::kInvalid, "--add ({}): percentile ({}) must be below 100", text,
                     app.limit.percentile);
      }
    }
  }
  if (!cluster.model(app.model, cluster.devices[0].kind)) {
    std::string known;
    for (const auto& m : cluster.models) known += (known.empty() ? "" : ", ") + m.model;
    return error(ErrorKind::kInvalid, "--add ({}): model ({}) is not in the file; it has: {}", text,
                 app.model, known);
  }
  app.name = app.model;
  for (int i = 2; std::any_of(cluster.applications.begin(), cluster.applications.end(),
                              [&](const Application& a) { return a.name == app.name; });
       ++i) {
    app.name = fmt::format("{}#{}", app.model, i);
  }
  cluster.applications.push_back(std::move(app));
  return {};
}

Result<Measured> read_measured(const std::string& path) {
  Measured measured;
  if (path.empty()) return measured;
  OB_TRY(const manage::Table table, manage::Table::read(path));
  if (!table.has({"application", "response_ms"})) {
    return error(ErrorKind::kInvalid, "{} must have the columns application and response_ms", path);
  }
  const std::size_t name = table.column("application"), time = table.column("response_ms");
  for (std::size_t row = 0; row < table.rows(); ++row) {
    OB_TRY(const double ms, table.number(row, time));
    measured[table.text(row, name)].push_back(ms * 1e3);
  }
  return measured;
}

Result<std::vector<Predicted>> predict_all(const Cluster& cluster, const Arguments& arguments) {
  manage::Predictor predictor;
  manage::Predictor::Options options;
  options.curves = true;
  options.brackets = !arguments.quick;
  options.effort = arguments.quick ? manage::Effort::kScreen : manage::Effort::kFull;
  options.seed = arguments.seed;
  options.replay = arguments.replay;
  ProgressLine progress;
  std::vector<Predicted> result;
  for (std::size_t i = 0; i < cluster.devices.size(); ++i) {
    const profile::Device& device = cluster.devices[i];
    progress.show(fmt::format("device {} ({} of {})", device.name, i + 1, cluster.devices.size()));
    OB_TRY(System system, manage::system_of(cluster, device));
    if (system.streams.empty()) continue;
    auto answer = predictor.predict(system, options);
    if (!answer) {
      return tl::make_unexpected(std::move(answer).error().while_doing(
          fmt::format("predicting devices[{}] ({})", i, device.name)));
    }
    result.push_back({&device, std::move(system), *std::move(answer)});
  }
  if (result.empty()) {
    return error(ErrorKind::kInvalid,
                 "no application is on a device: give applications[].device, or --add");
  }
  return result;
}

json number_or_null(double value) { return std::isfinite(value) ? json(value) : json(); }

double mean_of(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v;
  return sum / static_cast<double>(x.size());
}

double percentile_of(std::vector<double> x, double percentile) {
  const auto at = static_cast<std::size_t>(percentile / 100 * static_cast<double>(x.size() - 1));
  std::nth_element(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(at), x.end());
  return x[at];
}

json as_json(const manage::Stream& stream, const StreamAnswer& a, const Measured& measured) {
  json app = {{"application", stream.name},
              {"rate_per_s", stream.rate_per_s},
              {"mean_ms", a.mean_us / 1e3},
              {"mean_error_ms", number_or_null(a.mean_error_us / 1e3)},
              {"percentile_error_ms", number_or_null(a.percentile_error_us / 1e3)},
              {"dominant", a.terms.dominant()},
              {"terms_ms",
               {{"service", a.terms.service_us / 1e3},
                {"swap", a.terms.swap_us / 1e3},
                {"queue", a.terms.queue_us / 1e3},
                {"sharing", a.terms.sharing_us / 1e3},
                {"outside", a.terms.outside_us / 1e3}}}};
  for (const double p : {50.0, 90.0, 95.0, 99.0, 99.9}) {
    app["percentiles_ms"][fmt::format("{:g}", p)] =
        number_or_null(a.response.quantile_us(p / 100) / 1e3);
  }
  if (stream.limit.latency_ms > 0) {
    app["limit"] = {{"percentile", stream.limit.percentile},
                    {"latency_ms", stream.limit.latency_ms},
                    {"predicted_ms", number_or_null(a.percentile_us / 1e3)},
                    {"slack_ms", number_or_null(a.slack_us / 1e3)},
                    {"p_late", a.p_late},
                    {"holds", a.slack_us >= 0}};
  }
  if (const auto found = measured.find(stream.name); found != measured.end()) {
    app["measured"] = {{"requests", found->second.size()},
                       {"mean_ms", mean_of(found->second) / 1e3},
                       {"p95_ms", percentile_of(found->second, 95) / 1e3}};
  }
  return app;
}

json as_json(const std::vector<Predicted>& all, const Measured& measured) {
  json devices = json::array();
  for (const Predicted& p : all) {
    json apps = json::array();
    for (std::size_t i = 0; i < p.system.streams.size(); ++i) {
      apps.push_back(as_json(p.system.streams[i], p.answer.streams[i], measured));
    }
    devices.push_back({{"device", p.device->name},
                       {"discipline", name_of(p.device->discipline)},
                       {"utilisation", p.answer.utilisation},
                       {"method", name_of(p.answer.method)},
                       {"conditions", p.answer.conditions},
                       {"applications", apps}});
  }
  return {{"devices", devices}};
}

void print_table(const std::vector<Predicted>& all, const Measured& measured) {
  for (const Predicted& p : all) {
    std::printf("%s: %s, utilisation %.3f, %s\n  %s\n", p.device->name.c_str(),
                std::string(name_of(p.device->discipline)).c_str(), p.answer.utilisation,
                std::string(name_of(p.answer.method)).c_str(), p.answer.conditions.c_str());
    std::printf("  %-24s %8s %9s %9s %9s %9s  %-16s %8s %9s  %s\n", "application", "rate/s",
                "mean ms", "p50", "p95", "p99", "limit", "P(late)", "slack ms", "largest term");
    for (std::size_t i = 0; i < p.system.streams.size(); ++i) {
      const manage::Stream& s = p.system.streams[i];
      const StreamAnswer& a = p.answer.streams[i];
      const bool limited = s.limit.latency_ms > 0;
      std::printf("  %-24s %8.3g %9.2f %9.2f %9.2f %9.2f  %-16s %8s %9s  %s\n", s.name.c_str(),
                  s.rate_per_s, a.mean_us / 1e3, a.response.quantile_us(0.5) / 1e3,
                  a.response.quantile_us(0.95) / 1e3, a.response.quantile_us(0.99) / 1e3,
                  limited
                      ? fmt::format("p{:g} {:g} ms", s.limit.percentile, s.limit.latency_ms).c_str()
                      : "-",
                  limited ? fmt::format("{:.4f}", a.p_late).c_str() : "-",
                  limited ? fmt::format("{:+.2f}", a.slack_us / 1e3).c_str() : "-",
                  std::string(a.terms.dominant()).c_str());
      if (const auto found = measured.find(s.name); found != measured.end()) {
        std::printf("  %-24s %8zu %9.2f %9.2f %9.2f %9.2f\n", "  measured", found->second.size(),
                    mean_of(found->second) / 1e3, percentile_of(found->second, 50) / 1e3,
                    percentile_of(found->second, 95) / 1e3, percentile_of(found->second, 99) / 1e3);
      }
    }
  }
}

Result<void> plot(const std::vector<Predicted>& all, const Measured& measured,
                  const std::string& path) {
  std::vector<manage::PlottedPanel> panels;
  for (const Predicted& p : all) {
    manage::PlottedPanel panel{fmt::format("{} ({}, utilisation {:.2f})", p.device->name,
                                           name_of(p.device->discipline), p.answer.utilisation),
                               {}};
    for (std::size_t i = 0; i < p.system.streams.size(); ++i) {
      const manage::Stream& s = p.system.streams[i];
      const auto found = measured.find(s.name);
      panel.curves.push_back({s.name, p.answer.streams[i].response,
                              found == measured.end() ? std::vector<double>{} : found->second,
                              s.limit_us()});
    }
    panels.push_back(std::move(panel));
  }
  return write_picture(path, manage::as_svg(panels));
}

Result<void> run(const Arguments& arguments) {
  OB_TRY(const std::string text, read_text(arguments.cluster));
  OB_TRY(Cluster cluster, profile::cluster_from_text(text, arguments.cluster));
  for (const std::string& added : arguments.added) OB_CHECK_OK(add(added, cluster));
  OB_TRY(const Measured measured, read_measured(arguments.measured));
  OB_TRY(const auto predicted, predict_all(cluster, arguments));
  if (!arguments.plot.empty()) OB_CHECK_OK(plot(predicted, measured, arguments.plot));
  if (arguments.json) {
    std::puts(as_json(predicted, measured).dump(2).c_str());
  } else {
    print_table(predicted, measured);
  }
  return {};
}

}  // namespace

void add_manage_predict(CLI::App& manage, int& exit_code) {
  auto* verb = manage.add_subcommand(
      "predict", "Predict the response times of every application in a cluster file");
  auto arguments = std::make_shared<Arguments>();
  verb->add_option("CLUSTER", arguments->cluster,
                   "Cluster file (devices, models, applications), or what `outboard profile` wrote")
      ->required();
  verb->add_option("--add", arguments->added,
                   "One more application on the file's only device: MODEL=RATE[,MS[@PERCENTILE]], "
                   "the rate per second and the limit in ms (percentile 95)");
  verb->add_flag("--json", arguments->json, "Print JSON");
  verb->add_flag("--quick", arguments->quick,
                 "Approximate in microseconds instead of solving exactly with error bounds");
  verb->add_flag("--replay", arguments->replay,
                 "Take recorded arrivals as what happens, not as a ground for the future");
  verb->add_option("--seed", arguments->seed, "Seed of what is simulated");
  verb->add_option("--plot", arguments->plot,
                   "Draw the distributions into an .svg or .png file (the latter by rsvg-convert)");
  verb->add_option(
      "--measured", arguments->measured,
      "Table (.csv, .csv.gz) with the columns application and response_ms to compare with");
  verb->callback([arguments, &exit_code] {
    const auto done = run(*arguments);
    if (!done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
