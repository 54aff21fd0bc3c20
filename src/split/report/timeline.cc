// SPDX-License-Identifier: Apache-2.0
#include "split/report/timeline.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace outboard::split {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

struct Event {
  int node = 0;
  bool sends = false;
  std::string name;
  int image = 0;
  bool boundary = false;
  double start_us = 0, end_us = 0;
  nlohmann::json details;
};

std::string rows_text(const Graph& graph, const std::vector<TensorRows>& all) {
  std::string text;
  for (const auto& r : all)
    text += fmt::format("{}{}[{},{})", text.empty() ? "" : " ", graph.tensors[at(r.tensor)].name,
                        r.rows.lo, r.rows.hi);
  return text;
}

template <typename Visit>
void for_each_event(const Graph& graph, const Cluster& cluster, const Plan& plan,
                    const std::vector<Layout>& layouts, const Schedule& schedule, Visit visit) {
  for (const Span& span : schedule.spans) {
    const Program& program = plan.programs[at(plan.images[at(span.image)])];
    const Layout& layout = layouts[at(plan.images[at(span.image)])];
    const int pieces = static_cast<int>(layout.pieces.size());
    Event e;
    e.image = span.image;
    e.start_us = span.start_us;
    e.end_us = span.end_us;
    if (span.task < pieces) {
      const Piece& p = layout.pieces[at(span.task)];
      const Block& b = program.blocks[at(p.block)];
      e.node = program.participants[at(p.participant)];
      e.boundary = p.boundary && b.interior_pieces > 0;
      const auto& first = graph.units[at(b.first_unit)].name;
      e.name = b.end_unit - b.first_unit == 1
                   ? first
                   : first + " .. " + graph.units[at(b.end_unit) - 1].name;
      e.details = {{"rows", rows_text(graph, p.wanted)}};
    } else {
      const Message& m = layout.messages[at(span.task - pieces)];
      e.node = program.participants[at(m.from)];
      e.sends = true;
      e.name = "to " + cluster.node(program.participants[at(m.to)]).name;
      e.details = {{"bytes", m.size_bytes}, {"rows", rows_text(graph, m.parts)}};
    }
    e.details["image"] = span.image;
    visit(e);
  }
}

}  // namespace

std::string chrome_trace(const Graph& graph, const Cluster& cluster, const Plan& plan,
                         const std::vector<Layout>& layouts, const Schedule& schedule) {
  nlohmann::json events = nlohmann::json::array();
  for (int n = 0; n < cluster.size(); ++n) {
    events.push_back({{"ph", "M"},
                      {"name", "process_name"},
                      {"pid", n},
                      {"args", {{"name", cluster.node(n).name}}}});
    events.push_back({{"ph", "M"},
                      {"name", "thread_name"},
                      {"pid", n},
                      {"tid", 0},
                      {"args", {{"name", "compute"}}}});
    events.push_back({{"ph", "M"},
                      {"name", "thread_name"},
                      {"pid", n},
                      {"tid", 1},
                      {"args", {{"name", "send"}}}});
  }
  for_each_event(graph, cluster, plan, layouts, schedule, [&](const Event& e) {
    events.push_back({{"ph", "X"},
                      {"name", e.name},
                      {"cat", e.sends      ? "message"
                              : e.boundary ? "boundary"
                                           : "compute"},
                      {"pid", e.node},
                      {"tid", e.sends ? 1 : 0},
                      {"ts", e.start_us},
                      {"dur", e.end_us - e.start_us},
                      {"args", e.details}});
  });
  return nlohmann::json{{"displayTimeUnit", "ms"}, {"traceEvents", events}}.dump();
}

std::string timeline_svg(const Graph& graph, const Cluster& cluster, const Plan& plan,
                         const std::vector<Layout>& layouts, const Schedule& schedule,
                         const std::string& title) {
  constexpr double kWidth = 1100, kLeft = 110, kLane = 22, kTop = 34;
  const double scale = (kWidth - kLeft - 10) / std::max(1.0, schedule.makespan_us);
  const double height = kTop + cluster.size() * (2 * kLane + 12) + 30;
  std::string svg = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{}' font-family='sans-serif' "
      "font-size='11'><rect width='100%' height='100%' fill='white'/><text x='{}' y='18' "
      "font-size='13'>{}: "
      "{:.3f} ms</text>",
      kWidth, height, kLeft, title, schedule.makespan_us / 1e3);
  for (int n = 0; n < cluster.size(); ++n) {
    const double y = kTop + n * (2 * kLane + 12);
    svg += fmt::format("<text x='4' y='{}'>{}</text><text x='4' y='{}' fill='#888'>sends</text>",
                       y + 15, cluster.node(n).name, y + kLane + 15);
  }
  for_each_event(graph, cluster, plan, layouts, schedule, [&](const Event& e) {
    const double y = kTop + e.node * (2 * kLane + 12) + (e.sends ? kLane : 0);
    const char* colour = e.sends       ? "#c8553d"
                         : e.boundary  ? "#f2b134"
                         : e.image % 2 ? "#5b8e7d"
                                       : "#2a6f97";
    svg += fmt::format(
        "<rect x='{:.2f}' y='{}' width='{:.2f}' height='{}' fill='{}' stroke='white' "
        "stroke-width='0.4'><title>{} {:.1f} us</title></rect>",
        kLeft + e.start_us * scale, y, std::max(0.3, (e.end_us - e.start_us) * scale), kLane - 4,
        colour, e.name, e.end_us - e.start_us);
  });
  svg += fmt::format(
      "<text x='{}' y='{}' fill='#555'>blue, green: computing; yellow: boundary rows first; "
      "red: sending</text></svg>\n",
      kLeft, height - 10);
  return svg;
}

}  // namespace outboard::split
