// SPDX-License-Identifier: Apache-2.0
#include "cli/split_times.h"

#include <algorithm>

#include "profile/json/rows.h"

namespace outboard::cli {
namespace {

using nlohmann::json;
using split::exec::Crew;
using split::exec::SplitOptions;
using split::exec::StepKind;
using split::exec::StepTime;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// Chrome's trace events: a participant's name, and a span in one of its lanes.
json process_event(int pid, const std::string& name) {
  return {{"ph", "M"}, {"name", "process_name"}, {"pid", pid}, {"args", {{"name", name}}}};
}

json span_event(int pid, int lane, const std::string& name, double start_us, double took_us) {
  constexpr const char* kLanes[] = {"compute", "send", "receive"};
  return {{"ph", "X"},   {"name", name},   {"cat", kLanes[lane]}, {"pid", pid},
          {"tid", lane}, {"ts", start_us}, {"dur", took_us}};
}

std::string task_name(const split::Layout& layout, int task) {
  const int pieces = static_cast<int>(layout.pieces.size());
  return task < pieces ? fmt::format("block {}", layout.pieces[at(task)].block)
                       : fmt::format("message {}", task - pieces);
}

const std::string& name_of(const Crew& crew, const SplitOptions& options, int participant) {
  return options.members[at(crew.program().participants[at(participant)])].name;
}

// What the plan expected, as more processes.
void add_planned(json& events, const Crew& crew, const SplitOptions& options,
                 const std::vector<split::Span>& planned) {
  const split::Layout& layout = crew.part().layout();
  const int pieces = static_cast<int>(layout.pieces.size()), n = crew.program().size();
  for (int p = 0; p < n; ++p)
    events.push_back(process_event(n + p, name_of(crew, options, p) + " as planned"));
  const auto add = [&](int p, StepKind lane, const split::Span& span) {
    events.push_back(span_event(n + p, static_cast<int>(lane), task_name(layout, span.task),
                                span.start_us, span.end_us - span.start_us));
  };
  for (const split::Span& span : planned) {
    if (span.task < pieces) {
      add(layout.pieces[at(span.task)].participant, StepKind::kCompute, span);
      continue;
    }
    const split::Message& message = layout.messages[at(span.task - pieces)];
    add(message.from, StepKind::kSend, span);
    add(message.to, StepKind::kReceive, span);
  }
}

}  // namespace

json break_down(const Crew& crew, const SplitOptions& options,
                const std::vector<std::vector<StepTime>>& times) {
  json nodes = json::array();
  for (int p = 0; p < crew.program().size(); ++p) {
    double compute = 0, copying = 0, sending = 0, sent_bytes = 0;
    std::int64_t first = 0, last = 0;
    for (const auto& t : times[at(p)]) {
      if (t.start_ns == 0) continue;
      if (first == 0 || t.start_ns < first) first = t.start_ns;
      last = std::max(last, t.end_ns);
      if (t.kind == StepKind::kCompute) {
        compute += static_cast<double>(t.end_ns - t.start_ns - t.copy_ns) / 1e3;
        copying += static_cast<double>(t.copy_ns) / 1e3;
      } else if (t.kind == StepKind::kSend) {
        sending += static_cast<double>(t.end_ns - t.start_ns) / 1e3;
      }
    }
    for (const auto& m : crew.part().layout().messages)
      if (m.from == p) sent_bytes += m.size_bytes;
    const double span = static_cast<double>(last - first) / 1e3;
    nodes.push_back({{"name", name_of(crew, options, p)},
                     {"compute_ms", compute / 1e3},
                     {"packing_ms", copying / 1e3},
                     {"sending_ms", sending / 1e3},
                     {"waiting_ms", std::max(0.0, span - compute - copying) / 1e3},
                     {"sent_bytes", sent_bytes},
                     {"build_ms", crew.build_ms()[at(p)]},
                     {"memory_bytes", crew.part().layout().memory_bytes[at(p)]}});
  }
  return nodes;
}

json trace_of(const Crew& crew, const SplitOptions& options,
              const std::vector<std::vector<StepTime>>& times,
              const std::vector<split::Span>& planned) {
  json events = json::array();
  std::int64_t begin = 0;
  for (const auto& node : times)
    for (const auto& t : node)
      if (t.start_ns > 0 && (begin == 0 || t.start_ns < begin)) begin = t.start_ns;
  for (int p = 0; p < crew.program().size(); ++p) {
    events.push_back(process_event(p, name_of(crew, options, p)));
    for (const auto& t : times[at(p)])
      if (t.start_ns != 0)
        events.push_back(span_event(p, static_cast<int>(t.kind),
                                    task_name(crew.part().layout(), t.task),
                                    static_cast<double>(t.start_ns - begin) / 1e3,
                                    static_cast<double>(t.end_ns - t.start_ns) / 1e3));
  }
  add_planned(events, crew, options, planned);
  return {{"displayTimeUnit", "ms"}, {"traceEvents", events}};
}

json cluster_json(const split::exec::SplitSession& session, const SplitOptions& options) {
  const split::Cluster& c = session.cluster();
  json out = {{"host", c.node(c.host).name}, {"nodes", json::array()}, {"links", json::array()}};
  for (int i = 0; i < c.size(); ++i) {
    json node = profile::as_json(c.node(i));
    if (!options.members[at(i)].address.empty()) node["address"] = options.members[at(i)].address;
    if (options.members[at(i)].pace > 0) node["pace"] = options.members[at(i)].pace;
    out["nodes"].push_back(std::move(node));
    for (int j = 0; j < c.size(); ++j)
      if (i != j && c.link(i, j).rate_bytes_per_s > 0)
        out["links"].push_back({{"from", c.node(i).name},
                                {"to", c.node(j).name},
                                {"delay_us", c.link(i, j).delay_us},
                                {"rate_bits_per_s", c.link(i, j).rate_bytes_per_s * 8},
                                {"both_ways", false}});
  }
  return out;
}

}  // namespace outboard::cli
