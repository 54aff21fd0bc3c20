// SPDX-License-Identifier: Apache-2.0
// `outboard split`: how one inference is cut into row bands over several nodes: what of a model can
// be cut (inspect), which plan is best and why (explain), and what any scheme takes (simulate).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/split_model.h"
#include "cli/split_run.h"
#include "cli/verbs.h"
#include "split/report/cluster_file.h"
#include "split/report/report.h"
#include "split/report/timeline.h"

namespace outboard::cli {
namespace {

struct SplitArguments {
  ModelArguments model;
  std::string cluster, scheme = "auto", channel, trace, plot;
  int tasks = 1;
  double deadline_ms = 0;
  double effort = 1;
  double image_bytes = 0;
  bool json = false;
};

struct Loaded {
  split::Graph graph;
  split::ClusterFile file;
};

Result<void> write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) return error(ErrorKind::kInvalid, "the file ({}) cannot be written", path);
  return {};
}

Result<void> inspect(const SplitArguments& a) {
  OB_TRY(const split::Graph graph, open_graph(a.model));
  const std::string text =
      a.json ? split::inspect_json(graph).dump(1) + "\n" : split::inspect_text(graph);
  std::fputs(text.c_str(), stdout);
  return {};
}

Result<Loaded> load(const SplitArguments& a) {
  Loaded l;
  OB_TRY(l.file, split::read_cluster(a.cluster));
  OB_TRY(l.graph, open_graph(a.model));
  return l;
}

split::PlanRequest request_of(const SplitArguments& a) {
  return {a.tasks, a.deadline_ms * 1e3, a.effort};
}

// Says why a plan is one node when that is not simply the best: the model or the nodes do not allow
// more.
void warn(const Loaded& l, const split::PlanResult& result) {
  if (result.plan.programs.size() != 1 || result.plan.programs[0].size() != 1) return;
  for (const auto& r : result.alternatives)
    if (!r.refused.empty()) {
      std::fprintf(stderr,
                   "outboard: a plan for more nodes was refused: %s; the plan is one node\n",
                   r.refused.c_str());
      return;
    }
  const auto parts = split::regions(l.graph);
  if (parts.empty())
    std::fprintf(stderr,
                 "outboard: nothing of this model can be divided by rows; the plan is one node\n");
}

Result<void> explain(const SplitArguments& a) {
  OB_TRY(const Loaded l, load(a));
  const auto request = request_of(a);
  const auto result = split::plan(l.graph, l.file.cluster, request);
  warn(l, result);
  std::fputs(split::explain_text(l.graph, l.file.cluster, request, result).c_str(), stdout);
  return {};
}

// Simulated again in full, with varying rates where the cluster has them.
void simulate_again(const Loaded& l, split::PlanResult& result) {
  split::SimulateOptions options;
  options.keep_spans = true;
  options.rates = &l.file.rates;
  result.schedule = split::simulate(l.file.cluster, result.plan, result.layouts, options);
  if (result.alternatives.empty()) return;
  const split::Program one = split::single(l.graph, l.file.cluster, l.file.cluster.host);
  split::LayoutBuilder builder(l.graph, l.file.cluster);
  result.single_us =
      split::simulate(l.file.cluster, {{one}, std::vector<int>(result.plan.images.size(), 0)},
                      {builder.build(one)}, options)
          .makespan_us;
}

Result<nlohmann::json> simulate_scheme(const SplitArguments& a, const Loaded& l,
                                       split::Scheme scheme) {
  split::PlanResult result = scheme == split::Scheme::kAuto
                                 ? split::plan(l.graph, l.file.cluster, request_of(a))
                                 : split::plan_baseline(scheme, l.graph, l.file.cluster, a.tasks);
  const std::string name(split::name_of(scheme));
  if (scheme == split::Scheme::kAuto) warn(l, result);
  simulate_again(l, result);
  nlohmann::json row = split::result_json(l.file.cluster, name, result);
  if (!a.channel.empty()) {
    OB_TRY(const split::Channel channel, split::read_channel(a.channel));
    double bytes = a.image_bytes;
    for (int t : l.graph.inputs)
      if (a.image_bytes <= 0)
        bytes += static_cast<double>(l.graph.tensors[static_cast<std::size_t>(t)].bytes(
            {0, l.graph.tensors[static_cast<std::size_t>(t)].rows}));
    row["service_reliability"] = split::service_reliability(
        channel, bytes, result.schedule.makespan_us, a.deadline_ms * 1e3);
  }
  if (!a.trace.empty())
    OB_CHECK_OK(write_file(a.trace, split::chrome_trace(l.graph, l.file.cluster, result.plan,
                                                        result.layouts, result.schedule)));
  if (!a.plot.empty())
    OB_CHECK_OK(write_file(a.plot, split::timeline_svg(l.graph, l.file.cluster, result.plan,
                                                       result.layouts, result.schedule, name)));
  return row;
}

Result<void> simulate(const SplitArguments& a) {
  std::vector<split::Scheme> schemes;
  if (a.scheme == "all") {
    schemes = {split::Scheme::kSingle, split::Scheme::kHalp,  split::Scheme::kModnn,
               split::Scheme::kDpfp,   split::Scheme::kTiles, split::Scheme::kAuto};
    if (!a.trace.empty() || !a.plot.empty())
      return error(ErrorKind::kInvalid, "--trace and --plot want one scheme, not (all)");
  } else if (const auto s = split::scheme_of(a.scheme)) {
    schemes = {*s};
  } else {
    return error(ErrorKind::kInvalid,
                 "the scheme ({}) must be auto, halp, modnn, dpfp, tiles, single or all", a.scheme);
  }
  if (!a.channel.empty() && a.deadline_ms <= 0)
    return error(ErrorKind::kInvalid, "--channel wants a deadline: give --deadline-ms");
  OB_TRY(const Loaded l, load(a));
  nlohmann::json rows = nlohmann::json::array();
  for (const auto scheme : schemes) {
    OB_TRY(auto row, simulate_scheme(a, l, scheme));
    rows.push_back(std::move(row));
  }
  if (a.json) {
    std::fputs(((rows.size() == 1 ? rows[0] : rows).dump(1) + "\n").c_str(), stdout);
    return {};
  }
  std::printf("%-10s%14s%10s%14s%s\n", "scheme", "makespan ms", "speed-up", "sent MB",
              a.channel.empty() ? "" : "  reliability");
  for (const auto& row : rows) {
    double sent = 0;
    for (const auto& node : row["nodes"]) sent += node["sent_bytes"].get<double>();
    std::printf("%-10s%14.3f%9.2fx%14.3f", row["scheme"].get<std::string>().c_str(),
                row["makespan_ms"].get<double>(), row["speed_up"].get<double>(), sent / 1e6);
    if (row.contains("service_reliability"))
      std::printf("%13.4f", row["service_reliability"].get<double>());
    std::printf("\n");
  }
  return {};
}

void add_model(CLI::App* verb, SplitArguments& a) {
  verb->add_option("MODEL", a.model.path, "The ONNX model")->required();
  verb->add_option("--shape", a.model.shapes,
                   "An input's shape, as in image=1,3,224,224; repeatable");
  verb->add_flag("--no-engine", a.model.no_engine,
                 "Infer shapes here instead of asking ONNX Runtime");
}

void add_cluster(CLI::App* verb, SplitArguments& a) {
  add_model(verb, a);
  verb->add_option("--cluster", a.cluster, "The nodes and links, a JSON file (docs/split.md)")
      ->required();
  verb->add_option("--tasks", a.tasks, "Images that wait in the queue")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--deadline-ms", a.deadline_ms, "When an image is late, from now")
      ->check(CLI::PositiveNumber);
  verb->add_option("--effort", a.effort, "How long to look for a plan; 1 is about half a second")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
}

}  // namespace

void add_split(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<SplitArguments>();
  CLI::App* verb =
      app.add_subcommand("split", "Cut one inference into row bands over several servers");
  verb->require_subcommand(1);
  const auto done = [&exit_code](const Result<void>& result) {
    exit_code = result ? 0 : report(result.error());
  };

  CLI::App* look = verb->add_subcommand(
      "inspect", "Show which operators can be cut, what ends a region and why, and halo bytes");
  add_model(look, *arguments);
  look->add_flag("--json", arguments->json, "Print JSON");
  look->callback([arguments, done] { done(inspect(*arguments)); });

  CLI::App* why = verb->add_subcommand(
      "explain", "Find a plan and say why it is this one and what the next best would cost");
  add_cluster(why, *arguments);
  why->callback([arguments, done] { done(explain(*arguments)); });

  add_split_run(*verb, exit_code);

  CLI::App* run = verb->add_subcommand("simulate", "Simulate a scheme on a cluster");
  add_cluster(run, *arguments);
  run->add_option("--scheme", arguments->scheme, "auto, halp, modnn, dpfp, tiles, single or all")
      ->capture_default_str();
  run->add_option("--channel", arguments->channel,
                  "The channel from the user to the host, a JSON file; prints P(uplink + inference "
                  "<= deadline)");
  run->add_option("--image-bytes", arguments->image_bytes,
                  "What the user sends; default: the model's inputs")
      ->check(CLI::PositiveNumber);
  run->add_flag("--json", arguments->json, "Print JSON");
  run->add_option("--trace", arguments->trace, "Write Chrome trace events to this file");
  run->add_option("--plot", arguments->plot, "Write a timeline to this file, as SVG");
  run->callback([arguments, done] { done(simulate(*arguments)); });
}

}  // namespace outboard::cli
