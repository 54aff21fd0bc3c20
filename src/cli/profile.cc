// SPDX-License-Identifier: Apache-2.0
// `outboard profile`: what a model costs on a device, here or behind a server.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/interrupt.h"
#include "cli/profile_host.h"
#include "cli/profile_report.h"
#include "cli/profile_together.h"
#include "cli/progress.h"
#include "cli/servers_file.h"
#include "cli/split_model.h"
#include "cli/verbs.h"
#include "profile/json/rows.h"
#include "split/exec/blocked.h"
#include "split/exec/measure.h"

namespace outboard::cli {
namespace {

struct ProfileArguments {
  std::vector<std::string> models;
  std::string device = "cpu";
  std::string server;
  bool insecure = false;
  std::string ort_library;
  std::string device_kind;
  std::string output;
  std::vector<std::string> shapes;
  int threads = 0;
  bool together = false;
  bool rows = false;
  MeasureOptions measure;
};

Result<ShapeChoices> parse_shapes(const std::vector<std::string>& texts) {
  ShapeChoices choices;
  for (const std::string& text : texts) {
    OB_TRY(auto shape, parse_shape(text));
    choices.insert_or_assign(std::move(shape.first), std::move(shape.second));
  }
  return choices;
}

Result<std::unique_ptr<ProfileHost>> make_host(const ProfileArguments& arguments,
                                               const std::atomic<bool>& stop,
                                               ProgressLine& progress) {
  if (arguments.server.empty()) {
    engine::OnnxRuntimeOptions options;
    options.library = arguments.ort_library;
    options.device = arguments.device;
    return make_local_host(options, arguments.threads);
  }
  OB_TRY(const wire::Access server, resolve_server(arguments.server, arguments.insecure));
  return make_remote_host(server, stop, progress);
}

Result<ModelReport> profile_model(ProfileHost& host, const std::string& path,
                                  const ProfileArguments& arguments, const ShapeChoices& shapes,
                                  const std::atomic<bool>& stop, ProgressLine& progress,
                                  std::vector<std::unique_ptr<Subject>>& kept) {
  ModelReport report;
  report.path = path;
  report.profile.model = std::filesystem::path(path).stem().string();
  auto opened = host.open(path, shapes, stop, progress);
  if (!opened) return tl::make_unexpected(std::move(opened).error().while_doing("opening " + path));
  report.inputs = std::move(opened->inputs);
  report.load_us = std::move(opened->load_us);
  report.profile.memory_bytes = opened->memory_bytes;
  report.measurement = measure(
      *opened->subject, arguments.measure, stop, Clock::monotonic(),
      [&](const Measurement& so_far, double elapsed_s) {
        progress.show(fmt::format("{}: {} Runs, {:.1f} of {:.1f} s, the last took {:.3f} ms",
                                  report.profile.model, so_far.runs.size(), elapsed_s,
                                  arguments.measure.duration_s, so_far.runs.back().total_us / 1e3));
      });
  if (arguments.together) kept.push_back(std::move(opened->subject));
  return report;
}

// Swap and slow-down of the models that were measured alone, into their profiles.
Result<void> profile_together(const ProfileArguments& arguments,
                              const std::vector<std::unique_ptr<Subject>>& kept,
                              const std::atomic<bool>& stop, ProgressLine& progress,
                              ProfileReport& report) {
  std::vector<Subject*> subjects;
  subjects.reserve(kept.size());
  for (const auto& subject : kept) subjects.push_back(subject.get());
  TogetherOptions options;
  options.duration_s = arguments.measure.duration_s;
  const Together together = measure_together(subjects, options, stop, Clock::monotonic(),
                                             [&](const std::string& line) { progress.show(line); });
  for (std::size_t j = 0; j < together.models.size(); ++j) {
    const TogetherTimes& times = together.models[j];
    profile::ModelProfile& profile = report.models[j].profile;
    profile.swap = profile::Distribution::constant(times.swap_us());
    profile.slow_down_per_other = times.slow_down_per_other(subjects.size());
    report.models[j].together = times;
  }
  if (together.failure) return tl::make_unexpected(*together.failure);
  return {};
}

Result<void> write_report(const ProfileReport& report, const std::string& output) {
  const std::string text = as_json_text(report);
  if (output.empty()) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return {};
  }
  std::ofstream file(output, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return error(ErrorKind::kInvalid, "the file ({}) cannot be written", output);
  std::fputs(as_table(report).c_str(), stdout);
  return {};
}

// What a remote Run takes beyond the device and an empty message's way: its tensors' transfer and
// both ends' software. In series with the device, so a prediction adds it.
profile::Distribution beyond_the_device(const Measurement& measurement,
                                        const profile::Device& device) {
  std::vector<double> rest_us;
  rest_us.reserve(measurement.runs.size());
  for (const RunTimes& run : measurement.runs) {
    rest_us.push_back(
        std::max(0.0, run.total_us - run.queue_us - run.compute_us - device.network.mean_us()));
  }
  return profile::Distribution::from_samples(rest_us, 32).value_or(profile::Distribution());
}

// What was measured is written in any case; an error of a model is told afterwards.
Result<void> run_profile(const ProfileArguments& arguments) {
  if (arguments.together && arguments.models.size() < 2) {
    return error(ErrorKind::kInvalid, "--together needs at least two models; ({}) was given",
                 arguments.models.size());
  }
  OB_TRY(const ShapeChoices shapes, parse_shapes(arguments.shapes));
  const Interrupt interrupt;
  const std::atomic<bool>& stop = interrupt.requested();
  ProgressLine progress;
  OB_TRY(const auto host, make_host(arguments, stop, progress));
  ProfileReport report;
  report.engine = host->engine();
  report.device = host->device();
  report.link = host->link();
  if (!arguments.device_kind.empty()) report.device.kind = arguments.device_kind;
  Result<void> outcome;
  std::vector<std::unique_ptr<Subject>> kept;
  for (const std::string& path : arguments.models) {
    if (stop) break;
    auto model = profile_model(*host, path, arguments, shapes, stop, progress, kept);
    if (!model) {
      outcome = tl::make_unexpected(std::move(model).error());
      break;
    }
    model->profile.device_kind = report.device.kind;
    conclude(*model, report.link ? &*report.link : nullptr);
    if (report.link) model->profile.after = beyond_the_device(model->measurement, report.device);
    const std::optional<Error> failure = model->measurement.failure;
    report.models.push_back(*std::move(model));
    if (failure) {
      outcome = tl::make_unexpected(Error(*failure).while_doing("measuring " + path));
      break;
    }
  }
  if (arguments.together && outcome && !stop) {
    outcome = profile_together(arguments, kept, stop, progress, report);
  }
  progress.wipe();
  report.interrupted = stop;
  if (!report.models.empty()) OB_CHECK_OK(write_report(report, arguments.output));
  if (report.interrupted && outcome && report.models.empty())
    return error(ErrorKind::kCancelled, "interrupted before anything was measured");
  return outcome;
}

// Time against rows, for plans that cut one inference.
Result<void> run_rows(const ProfileArguments& arguments) {
  if (arguments.models.size() != 1 || !arguments.server.empty())
    return error(ErrorKind::kInvalid, "--rows measures one model on this machine; ({}) were given",
                 arguments.models.size());
  const Interrupt interrupt;
  ProgressLine progress;
  engine::OnnxRuntimeOptions options;
  options.library = arguments.ort_library;
  options.device = arguments.device;
  OB_TRY(const auto engine, engine::load_onnxruntime(options));
  OB_TRY(const split::Graph graph, open_graph({arguments.models[0], arguments.shapes, false}));
  split::exec::RowsOptions rows;
  rows.threads = arguments.threads;
  rows.block_channels = split::exec::block_channels(*engine);
  OB_TRY(auto node,
         split::exec::measure_rows(*engine, graph, rows, interrupt.requested(),
                                   [&](const std::string& what) { progress.show(what); }));
  progress.wipe();
  node.name = arguments.device_kind.empty() ? "this" : arguments.device_kind;
  const std::string text = profile::as_json(node).dump(1) + "\n";
  if (arguments.output.empty()) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return {};
  }
  std::ofstream file(arguments.output, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return error(ErrorKind::kInvalid, "the file ({}) cannot be written", arguments.output);
  return {};
}

}  // namespace

void add_profile(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<ProfileArguments>();
  CLI::App* verb = app.add_subcommand(
      "profile",
      "Measure what a model costs on a device: service time as a distribution, load time, memory, "
      "and for a server the link's delay and rate. The inputs are random");
  verb->add_option("MODEL", arguments->models, "ONNX models; each is measured alone")->required();
  auto* device = verb->add_option("--device", arguments->device,
                                  "The device here to measure on, cpu or cuda:N")
                     ->capture_default_str();
  verb->add_flag("--insecure", arguments->insecure,
                 "Reach the server without encryption, where no access to it is known");
  verb->add_option("--server", arguments->server,
                   "Measure on this server (a known name, HOST:PORT or unix:PATH) instead")
      ->excludes(device);
  verb->add_option("--shape", arguments->shapes,
                   "An input's shape, as in image=1,3,224,224; repeatable. Dimensions that the "
                   "model leaves open are 1 otherwise");
  verb->add_flag("--together", arguments->together,
                 "Measure the models with each other, too: what a change of model costs, and how "
                 "much they slow each other down when they run at once");
  verb->add_option("--seconds", arguments->measure.duration_s,
                   "How long to measure each model, its loading not counted")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--runs", arguments->measure.max_runs, "End after this many Runs of a model")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--warm-up", arguments->measure.warm_up_runs,
                   "Runs before those that are measured")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--threads", arguments->threads,
                   "Threads of the model here; 0 is one for each core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--device-kind", arguments->device_kind,
                   "What the profile calls this kind of device; default cpu-CORES here, and what "
                   "the server says of itself there");
  verb->add_option("--ort-library", arguments->ort_library,
                   "The ONNX Runtime library to load, where it is not found by itself");
  verb->add_option("--output", arguments->output,
                   "Write the JSON to this file and a table to standard output");
  verb->add_flag("--rows", arguments->rows,
                 "Measure the time of every unit of one model against its rows, and the cost of a "
                 "call, for `outboard split` (docs/split.md)");
  verb->callback([arguments, &exit_code] {
    auto done = arguments->rows ? run_rows(*arguments) : run_profile(*arguments);
    if (!done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
