// SPDX-License-Identifier: Apache-2.0
// `outboard split run`: runs a model over the nodes of a cluster file, next to the same model on
// the host alone, and says where the time went. `outboard split plan`: measures what the file does
// not say and prints the plan.
#include "cli/split_run.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/median.h"
#include "cli/serve_options.h"
#include "cli/split_nodes.h"
#include "cli/split_times.h"
#include "cli/verbs.h"
#include "engine/element_type.h"
#include "engine/onnxruntime/engine.h"
#include "split/exec/measure.h"

namespace outboard::cli {
namespace {

using nlohmann::json;
using split::exec::Crew;
using split::exec::SplitSession;

struct RunArguments {
  std::string model, cluster, scheme = "auto", output, trace;
  std::vector<std::string> inputs, without;
  int runs = 1, warm_up = 1, tasks = 1, threads = 1;
  double effort = 1;
  bool json = false, plan_only = false, insecure = false;
};

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// The bytes of a file; the header of an .npy file is passed over.
Result<std::vector<std::byte>> read_tensor(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return error(ErrorKind::kNotFound, "the input ({}) cannot be read", path);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  std::size_t begin = 0;
  if (text.starts_with("\x93NUMPY") && text.size() > 12) {
    const bool two = text[6] >= 2;
    std::uint32_t size = static_cast<unsigned char>(text[8]) |
                         static_cast<std::uint32_t>(static_cast<unsigned char>(text[9])) << 8;
    if (two) std::memcpy(&size, text.data() + 8, sizeof size);
    begin = (two ? 12u : 10u) + size;
  }
  if (begin > text.size()) return error(ErrorKind::kInvalid, "the input ({}) is cut off", path);
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return std::vector<std::byte>(bytes + begin, bytes + text.size());
}

struct Inputs {
  std::vector<std::vector<std::byte>> memory;
  std::vector<engine::InputView> views;
};

Result<Inputs> make_inputs(const RunArguments& a, const split::Graph& graph) {
  std::map<std::string, std::string> files;
  for (const auto& text : a.inputs) {
    const auto eq = text.find('=');
    if (eq == std::string::npos && graph.inputs.size() == 1)
      files[graph.tensors[at(graph.inputs[0])].name] = text;
    else if (eq != std::string::npos)
      files[text.substr(0, eq)] = text.substr(eq + 1);
    else
      return error(ErrorKind::kInvalid, "the input ({}) must be NAME=FILE", text);
  }
  Inputs out{split::exec::plausible_inputs(graph), {}};
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const auto& t = graph.tensors[at(graph.inputs[i])];
    auto& bytes = out.memory[i];
    if (const auto file = files.find(t.name); file != files.end()) {
      OB_TRY(auto read, read_tensor(file->second));
      if (read.size() != bytes.size())
        return error(ErrorKind::kInvalid, "the file ({}) has {} bytes, and the input ({}) {}",
                     file->second, read.size(), t.name, bytes.size());
      bytes = std::move(read);
    }
  }
  out.views = split::exec::input_views(graph, out.memory);
  return out;
}

Result<void> write_outputs(const std::string& folder, const split::Graph& graph,
                           const Crew::Outputs& outputs) {
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
    std::string name = graph.tensors[at(graph.outputs[i])].name;
    std::replace(name.begin(), name.end(), '/', '_');
    std::string path = folder;
    path.append("/").append(name).append(".raw");
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(outputs.views[i].data()),
               static_cast<std::streamsize>(outputs.views[i].size()));
    if (!file) return error(ErrorKind::kInvalid, "the file ({}) cannot be written", path);
  }
  return {};
}

// One after the other, or all begun at once where the plan has room for them.
Result<double> time_frames(Crew& crew, const Inputs& inputs, int tasks, int contexts) {
  const Nanoseconds start = Clock::monotonic().now();
  std::vector<std::uint64_t> frames;
  for (int i = 0, ended = 0; ended < tasks;) {
    while (i < tasks && i - ended < contexts) {
      OB_TRY(const auto frame, crew.part().begin(inputs.views));
      frames.push_back(frame);
      ++i;
    }
    OB_TRY(const auto done,
           crew.part().wait(frames[at(ended)], Deadline::in(std::chrono::seconds(120))));
    crew.part().release(frames[at(ended++)]);
  }
  return std::chrono::duration<double, std::micro>(Clock::monotonic().now() - start).count();
}

Result<void> run_split(const RunArguments& a) {
  const auto scheme = split::scheme_of(a.scheme);
  if (!scheme)
    return error(ErrorKind::kInvalid,
                 "the scheme ({}) must be auto, halp, modnn, dpfp, tiles or "
                 "single",
                 a.scheme);
  OB_TRY(const auto file, split::read_cluster(a.cluster, true));
  OB_TRY(auto options, options_of_cluster(file, a.insecure));
  OB_TRY(const auto engine, engine::load_onnxruntime({}));
  engine::OpenOptions open;
  open.intra_op_threads = a.threads;
  OB_TRY(const auto own, engine->open(a.model, open));
  const auto without = [&](const char* what) {
    return std::find(a.without.begin(), a.without.end(), what) != a.without.end();
  };
  options.scheme = *scheme;
  options.threads = a.threads;
  options.contexts = a.tasks;
  options.request.effort = a.effort;
  options.request.overlap = !without("overlap");
  options.request.fuse = !without("fusing");
  options.request.divide_head = !without("head");
  options.least_budget_us = 60e6;
  options.blocked = !without("layout");
  if (const auto store = default_store_folder()) options.bands = open_bands(*store);
  // Asked for several Runs, or a scheme by name, somebody compares: the plan is used as it is.
  options.always = a.runs > 1 || *scheme != split::Scheme::kAuto || a.plan_only;
  const auto session = SplitSession::make(*engine, own, a.model, options);
  (void)session->wait_until_settled(Deadline::in(std::chrono::minutes(10)));
  const auto crew = session->crew();
  const auto status = session->status();
  if (a.plan_only && !a.output.empty()) {
    std::ofstream out(a.output, std::ios::binary | std::ios::trunc);
    out << cluster_json(*session, options).dump(1) << "\n";
    if (!out) return error(ErrorKind::kInvalid, "the file ({}) cannot be written", a.output);
  }
  if (!crew)
    std::fprintf(stderr, "outboard: the Run is done on one node: %s\n", status.state.c_str());

  OB_TRY(const auto graph, split::exec::open_graph(*engine, a.model, {}));
  OB_TRY(const Inputs inputs, make_inputs(a, *graph));
  split::Cluster alone = options.cluster;
  split::Program one_program = split::single(*graph, alone, alone.host);
  OB_TRY(const auto one, Crew::set_up(*engine, graph, nullptr, one_program, options.members,
                                      options.host, {.contexts = 1, .threads = a.threads}));
  Crew& used = crew ? *crew : *one;
  std::vector<double> split_us, single_us;
  FrameTimes times;
  double best = 0, worst_difference = 0;
  for (int i = 0; i < a.warm_up + a.runs; ++i) {
    OB_TRY(const double s, time_frames(*one, inputs, a.tasks, 1));
    OB_TRY(const double c, time_frames(used, inputs, a.tasks, crew ? a.tasks : 1));
    if (i < a.warm_up) continue;
    single_us.push_back(s);
    split_us.push_back(c);
    if (best == 0 || c < best) {
      best = c;
      times =
          used.part().times(used.part().frames() - 1, Deadline::in(std::chrono::milliseconds(100)));
    }
  }
  {
    OB_TRY(const auto whole, one->run(inputs.views, Deadline::in(std::chrono::seconds(120))));
    Crew::Outputs got = whole;
    if (crew) {
      OB_TRY(got, crew->run(inputs.views, Deadline::in(std::chrono::seconds(120))));
      worst_difference = split::exec::difference(*graph, got.views, whole.views);
    }
    if (!a.output.empty() && !a.plan_only) OB_CHECK_OK(write_outputs(a.output, *graph, got));
    one->release(whole);
    if (crew) crew->release(got);
  }
  if (!a.trace.empty()) {
    std::ofstream out(a.trace, std::ios::binary | std::ios::trunc);
    out << trace_of(used, options, times, crew ? session->planned() : std::vector<split::Span>())
               .dump();
  }
  json result = {{"scheme", a.scheme},
                 {"nodes", used.program().size()},
                 {"blocks", used.program().blocks.size()},
                 {"state", status.state},
                 {"planned_ms", status.planned_us * a.tasks / 1e3},
                 {"first_planned_ms", status.first_planned_us * a.tasks / 1e3},
                 {"single_ms", median(single_us) / 1e3},
                 {"split_ms", median(split_us) / 1e3},
                 {"speed_up", median(single_us) / std::max(1.0, median(split_us))},
                 {"difference", worst_difference},
                 {"set_up_ms", used.set_up_ms()},
                 {"tasks", a.tasks},
                 {"break_down", break_down(used, options, times)}};
  for (auto& [name, list] : {std::pair{"single_us", &single_us}, {"split_us", &split_us}})
    result[name] = *list;
  if (a.json) {
    std::fputs((result.dump(1) + "\n").c_str(), stdout);
    return {};
  }
  std::printf("%s: %zu nodes, %zu blocks, planned %.1f ms\n", a.scheme.c_str(),
              static_cast<std::size_t>(used.program().size()), used.program().blocks.size(),
              status.planned_us / 1e3);
  std::printf("one node %.1f ms, together %.1f ms: %.2fx; largest difference %.2g\n",
              median(single_us) / 1e3, median(split_us) / 1e3,
              median(single_us) / std::max(1.0, median(split_us)), worst_difference);
  for (const auto& node : result["break_down"])
    std::printf("  %-12s compute %8.1f ms  packing %6.1f  sending %6.1f  waiting %6.1f\n",
                node["name"].get<std::string>().c_str(), node["compute_ms"].get<double>(),
                node["packing_ms"].get<double>(), node["sending_ms"].get<double>(),
                node["waiting_ms"].get<double>());
  return {};
}

void add_common(CLI::App* verb, RunArguments& a) {
  verb->add_option("MODEL", a.model, "The ONNX model")->required();
  verb->add_option("--cluster", a.cluster,
                   "The nodes, each but the host with an address; what the file does not say of "
                   "nodes and links is measured (docs/split.md)")
      ->required();
  verb->add_option("--scheme", a.scheme, "auto, halp, modnn, dpfp, tiles or single")
      ->capture_default_str();
  verb->add_option("--threads", a.threads, "Threads of this node; 0 is the engine's choice")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--effort", a.effort, "How long to look for a plan; 1 is about half a second")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  verb->add_option("--output", a.output,
                   "run: a folder for the outputs, each as NAME.raw; plan: a file for the cluster "
                   "with everything that was measured");
  verb->add_option("--without", a.without,
                   "What to do without, to see what it is worth: overlap (boundary rows first), "
                   "fusing (several layers in a block), head (on several nodes), layout (that of "
                   "the kernels between blocks); repeatable")
      ->check(CLI::IsMember({"overlap", "fusing", "head", "layout"}));
  verb->add_flag("--json", a.json, "Print JSON");
  verb->add_flag("--insecure", a.insecure,
                 "Without encryption, and whoever answers there, where no access is known");
}

}  // namespace

void add_split_run(CLI::App& split, int& exit_code) {
  auto run_arguments = std::make_shared<RunArguments>();
  CLI::App* run = split.add_subcommand(
      "run", "Run a model over the nodes of a cluster, and beside it on this node alone");
  add_common(run, *run_arguments);
  run->add_option("--input", run_arguments->inputs,
                  "NAME=FILE, raw bytes or .npy; repeatable. Random without");
  run->add_option("--runs", run_arguments->runs, "How often, each beside one Run on this node")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  run->add_option("--tasks", run_arguments->tasks, "Images at once")
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
  run->add_option("--trace", run_arguments->trace,
                  "Write Chrome trace events of the last frame to this file");
  run->callback([run_arguments, &exit_code] {
    if (auto done = run_split(*run_arguments); !done) exit_code = report(done.error());
  });

  auto plan_arguments = std::make_shared<RunArguments>();
  plan_arguments->plan_only = true;
  CLI::App* plan = split.add_subcommand(
      "plan", "Measure nodes and links, make a plan, set it up, check its result and its time");
  add_common(plan, *plan_arguments);
  plan->callback([plan_arguments, &exit_code] {
    if (auto done = run_split(*plan_arguments); !done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
