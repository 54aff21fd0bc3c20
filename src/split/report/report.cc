// SPDX-License-Identifier: Apache-2.0
#include "split/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace outboard::split {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

double op_flops(const Graph& graph, const Op& op) {
  const int tensor = op.kind == OpKind::kPartial ? op.inputs[0].tensor
                     : op.outputs.empty()        ? -1
                                                 : op.outputs[0];
  return op.flops_per_row * (tensor < 0 ? 1 : graph.tensors[at(tensor)].rows) + op.fixed_flops;
}

double unit_flops(const Graph& graph, const Unit& unit) {
  double sum = 0;
  for (int i = unit.first_op; i < unit.end_op; ++i) sum += op_flops(graph, graph.ops[at(i)]);
  return sum;
}

const Op* host_op(const Graph& graph, const Unit& unit) {
  for (int i = unit.first_op; i < unit.end_op; ++i)
    if (graph.ops[at(i)].kind == OpKind::kHost) return &graph.ops[at(i)];
  return nullptr;
}

std::string shape_text(const Shape& shape) {
  std::string text;
  for (auto d : shape)
    text += (text.empty() ? "" : "x") + (d > 0 ? std::to_string(d) : std::string("?"));
  return text;
}

const char* how(const Graph& graph, const Unit& unit) {
  if (host_op(graph, unit)) return "host";
  const Op& op = graph.ops[at(unit.heaviest_op)];
  if (op.kind == OpKind::kPartial) return op.weights_by_row ? "K split" : "partial sums";
  if (op.kind == OpKind::kReplicated) return "every node";
  return op.weights_by_row ? "columns" : "rows";
}

double makespan_of(const Graph& graph, const Cluster& cluster, const PlanRequest& request,
                   const Program& program) {
  LayoutBuilder builder(graph, cluster);
  const Plan plan{{program}, std::vector<int>(at(request.images), 0)};
  return simulate(cluster, plan, {builder.build(program)}).makespan_us;
}

}  // namespace

double halo_bytes(const Graph& graph, int unit) {
  const Unit& u = graph.units[at(unit)];
  double sum = 0;
  std::vector<std::pair<int, Rows>> seen;  // a halo belongs to a tensor
  for (int i = u.first_op; i < u.end_op; ++i) {
    const Op& op = graph.ops[at(i)];
    for (const auto& in : op.inputs) {
      const Tensor& t = graph.tensors[at(in.tensor)];
      if (t.kind != TensorKind::kRows || op.outputs.empty()) continue;
      const Tensor& out = graph.tensors[at(op.outputs[0])];
      if (op.kind != OpKind::kRows || out.kind != TensorKind::kRows || in.map.fixed) continue;
      const int cut = out.rows / 2,
                in_cut = static_cast<int>(std::int64_t{cut} * t.rows / out.rows);
      const Rows above = in.map.needs({0, cut}, t.rows),
                 below = in.map.needs({cut, out.rows}, t.rows);
      const Rows halo{std::min(below.lo, in_cut), std::max(above.hi, in_cut)};
      bool known = false;
      for (auto& [tensor, rows] : seen)
        if (tensor == in.tensor) {
          known = true;
          rows = hull(rows, halo);
        }
      if (!known) seen.emplace_back(in.tensor, halo);
    }
  }
  for (const auto& [tensor, rows] : seen)
    sum += static_cast<double>(graph.tensors[at(tensor)].bytes(rows));
  return sum;
}

std::vector<Region> regions(const Graph& graph) {
  std::vector<Region> out;
  bool open = false;
  for (int u = 0; u < static_cast<int>(graph.units.size()); ++u) {
    const Unit& unit = graph.units[at(u)];
    const Op* host = host_op(graph, unit);
    if (host && open) {
      out.back().ended_by = fmt::format("{} ({}): {}", host->name, host->type, host->reason);
      open = false;
    }
    if (host) continue;
    if (!open) out.push_back({u, u, 0, ""});
    open = true;
    out.back().end_unit = u + 1;
    out.back().flops += unit_flops(graph, unit);
  }
  return out;
}

std::string inspect_text(const Graph& graph) {
  std::string text =
      fmt::format("{:<5}{:<34}{:<18}{:>6}{:>13}{:>9}{:>12}{:>12}\n", "unit", "heaviest operator",
                  "output", "rows", "divided by", "ops", "MFLOP", "halo KB");
  for (int u = 0; u < static_cast<int>(graph.units.size()); ++u) {
    const Unit& unit = graph.units[at(u)];
    const Tensor& t = graph.main_output(unit);
    std::string name = unit.name.size() > 32 ? unit.name.substr(0, 29) + "..." : unit.name;
    text += fmt::format("{:<5}{:<34}{:<18}{:>6}{:>13}{:>9}{:>12.1f}{:>12.1f}\n", u, name,
                        shape_text(t.shape), t.rows, how(graph, unit), unit.end_op - unit.first_op,
                        unit_flops(graph, unit) / 1e6, halo_bytes(graph, u) / 1024);
  }
  text +=
      fmt::format("\n{} operators in {} units, {:.3f} GFLOP, weights {:.1f} MB\n", graph.ops.size(),
                  graph.units.size(), graph.flops() / 1e9, graph.weight_bytes() / 1e6);
  for (const auto& r : regions(graph))
    text +=
        fmt::format("units {} to {} can be divided ({:.1f} % of the work){}\n", r.first_unit,
                    r.end_unit - 1, 100 * r.flops / std::max(1.0, graph.flops()),
                    r.ended_by.empty() ? ", to the end of the model" : "; ended by " + r.ended_by);
  return text;
}

nlohmann::json inspect_json(const Graph& graph) {
  nlohmann::json units = nlohmann::json::array(), parts = nlohmann::json::array();
  for (int u = 0; u < static_cast<int>(graph.units.size()); ++u) {
    const Unit& unit = graph.units[at(u)];
    units.push_back({{"name", unit.name},
                     {"rows", graph.main_output(unit).rows},
                     {"divided_by", how(graph, unit)},
                     {"operators", unit.end_op - unit.first_op},
                     {"flops", unit_flops(graph, unit)},
                     {"halo_bytes", halo_bytes(graph, u)}});
  }
  for (const auto& r : regions(graph))
    parts.push_back({{"first_unit", r.first_unit},
                     {"end_unit", r.end_unit},
                     {"flops", r.flops},
                     {"ended_by", r.ended_by}});
  return {{"units", units},
          {"regions", parts},
          {"flops", graph.flops()},
          {"weight_bytes", graph.weight_bytes()}};
}

std::string explain_text(const Graph& graph, const Cluster& cluster, const PlanRequest& request,
                         const PlanResult& result) {
  std::string text;
  const double us = result.schedule.makespan_us;
  text +=
      fmt::format("{}: {:.3f} ms for {} image{}, {:.2f}x of one node ({:.3f} ms)\n",
                  result.alternatives[0].name, us / 1e3, request.images,
                  request.images == 1 ? "" : "s", result.single_us / us, result.single_us / 1e3);
  if (request.deadline_us > 0)
    text += fmt::format("deadline {:.3f} ms: {}\n", request.deadline_us / 1e3,
                        result.late ? "missed by some image" : "met by every image");
  if (cluster.size() == 1) text += "the cluster has one node\n";
  const Program& program = result.plan.programs.back();
  const Layout& layout = result.layouts.back();
  text += "\nblock  units      rows  calls  cuts (participants";
  for (int p : program.participants) text += " " + cluster.node(p).name;
  text += ")\n";
  for (std::size_t b = 0; b < program.blocks.size(); ++b) {
    const Block& block = program.blocks[b];
    const auto calls = std::count_if(
        layout.pieces.begin(), layout.pieces.end(),
        [&](const Piece& p) { return p.block == static_cast<int>(b) && p.time_us > 0; });
    text +=
        fmt::format("{:<7}{:<11}{:<6}{:<7}", b,
                    fmt::format("{}-{}", block.first_unit, block.end_unit - 1), block.rows, calls);
    for (int c : block.cuts) text += fmt::format(" {}", c);
    text += "\n";
  }
  text += "\nnode             computes ms   idle %    sends KB   memory MB\n";
  for (std::size_t i = 0; i < program.participants.size(); ++i) {
    const int n = program.participants[i];
    const double busy = result.schedule.busy_us[at(n)];
    text += fmt::format("{:<17}{:>11.3f}{:>9.1f}{:>12.1f}{:>12.1f}\n", cluster.node(n).name,
                        busy / 1e3, 100 * (1 - busy / us), result.schedule.sent_bytes[at(n)] / 1024,
                        layout.memory_bytes[i] / 1e6);
  }
  if (!result.choice.participants.empty() && result.alternatives[0].name.starts_with("auto")) {
    text += "\nwithout one of its means:\n";
    const auto show = [&](const char* what, const Choice& c) {
      const double other = makespan_of(graph, cluster, request, program_of(graph, cluster, c));
      text += fmt::format("  {:<44}{:>10.3f} ms{:>+8.1f} %\n", what, other / 1e3,
                          100 * (other / us - 1));
    };
    Choice c = result.choice;
    std::fill(c.pieces.begin(), c.pieces.end(), 0);
    show("no calls of their own for boundary rows", c);
    c = result.choice;
    std::fill(c.starts.begin(), c.starts.end(), 1);
    show("no fused units", c);
    c = result.choice;
    c.host_from = std::min(c.host_from, head_unit(graph));
    show("the head on the host alone", c);
    c = result.choice;
    c.shares.assign(c.shares.size(), 1.0);
    c.level_shifts.clear();
    for (auto& s : c.shifts) s.clear();
    show("equal shares, the same cuts everywhere", c);
  }
  text += "\nwhat else was looked at:\n";
  for (const auto& a : result.alternatives)
    text += fmt::format("  {:<44}{:>10.3f} ms{:>8.2f}x{}\n", a.name, a.makespan_us / 1e3,
                        result.single_us / a.makespan_us,
                        a.refused.empty() ? "" : "  (" + a.refused + ")");
  return text;
}

nlohmann::json result_json(const Cluster& cluster, const std::string& scheme,
                           const PlanResult& result) {
  nlohmann::json nodes = nlohmann::json::array();
  for (int n = 0; n < cluster.size(); ++n) {
    double memory = 0;
    for (std::size_t p = 0; p < result.plan.programs.size(); ++p)
      for (std::size_t i = 0; i < result.plan.programs[p].participants.size(); ++i)
        if (result.plan.programs[p].participants[i] == n)
          memory = std::max(memory, result.layouts[p].memory_bytes[i]);
    nodes.push_back({{"name", cluster.node(n).name},
                     {"busy_ms", result.schedule.busy_us[at(n)] / 1e3},
                     {"sent_bytes", result.schedule.sent_bytes[at(n)]},
                     {"memory_bytes", memory}});
  }
  nlohmann::json ends = nlohmann::json::array(), others = nlohmann::json::array();
  for (double e : result.schedule.image_end_us) ends.push_back(e / 1e3);
  for (const auto& a : result.alternatives)
    others.push_back({{"name", a.name}, {"makespan_ms", a.makespan_us / 1e3}});
  return {{"scheme", scheme},
          {"plan", result.alternatives.empty() ? scheme : result.alternatives[0].name},
          {"makespan_ms", result.schedule.makespan_us / 1e3},
          {"single_ms", result.single_us / 1e3},
          {"speed_up", result.single_us / result.schedule.makespan_us},
          {"image_end_ms", ends},
          {"nodes", nodes},
          {"alternatives", others}};
}

}  // namespace outboard::split
