// SPDX-License-Identifier: Apache-2.0
#include "split/plan/plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace outboard::split {

Rows Block::owned(int participant, int tensor_rows) const {
  const auto i = static_cast<std::size_t>(participant);
  if (tensor_rows == rows) return {cuts[i], cuts[i + 1]};
  const auto scale = [&](int cut) {
    return static_cast<int>((std::int64_t{cut} * tensor_rows * 2 + rows) /
                            (2 * std::int64_t{rows}));
  };
  const Rows r{scale(cuts[i]), scale(cuts[i + 1])};
  return r.empty() ? Rows{} : r;
}

int Program::host_index(const Cluster& cluster) const {
  const auto it = std::find(participants.begin(), participants.end(), cluster.host);
  OB_CHECK(it != participants.end());
  return static_cast<int>(it - participants.begin());
}

std::vector<int> cut_rows(int rows, const std::vector<double>& shares) {
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  std::vector<int> cuts = {0};
  double sum = 0;
  for (double s : shares) {
    sum += s;
    cuts.push_back(std::max(cuts.back(), static_cast<int>(std::lround(rows * sum / total))));
  }
  cuts.back() = rows;
  return cuts;
}

std::vector<int> give_all(int rows, int participants, int to) {
  std::vector<int> cuts(static_cast<std::size_t>(participants) + 1, 0);
  for (int i = to + 1; i <= participants; ++i) cuts[static_cast<std::size_t>(i)] = rows;
  return cuts;
}

int unit_rows(const Graph& graph, int unit) {
  return graph.main_output(graph.units[static_cast<std::size_t>(unit)]).rows;
}

int head_unit(const Graph& graph) {
  int head = static_cast<int>(graph.units.size());
  while (head > 0) {
    const Unit& unit = graph.units[static_cast<std::size_t>(head) - 1];
    const Op& op = graph.ops[static_cast<std::size_t>(unit.heaviest_op)];
    if (op.kind == OpKind::kRows && !op.own_unit) break;
    --head;
  }
  return head;
}

double speed(const Graph& graph, const profile::NodeRows& node) {
  if (node.units.empty()) return node.flops_per_s;
  double time_us = 0, flops = 0;
  for (const auto& unit : graph.units) {
    const auto it = node.units.find(unit.name);
    if (it == node.units.end()) continue;
    time_us += it->second.at(graph.main_output(unit).rows);
    for (int i = unit.first_op; i < unit.end_op; ++i) {
      const Op& op = graph.ops[static_cast<std::size_t>(i)];
      if (!op.outputs.empty())
        flops += op.flops_per_row * graph.tensors[static_cast<std::size_t>(op.outputs[0])].rows;
    }
  }
  return time_us > 0 ? flops / time_us * 1e6 : node.flops_per_s;
}

std::vector<int> chain(const Cluster& cluster, int count) {
  std::vector<int> others;
  for (int i = 0; i < cluster.size(); ++i)
    if (i != cluster.host) others.push_back(i);
  std::sort(others.begin(), others.end(), [&](int a, int b) {
    const double fa = cluster.node(a).flops_per_s, fb = cluster.node(b).flops_per_s;
    return fa != fb ? fa > fb : a < b;
  });
  others.resize(std::min(others.size(), static_cast<std::size_t>(std::max(0, count - 1))));
  std::vector<int> out = {cluster.host};
  for (std::size_t i = 0; i < others.size(); ++i)
    out.insert(i % 2 == 0 ? out.begin() : out.end(), others[i]);
  return out;
}

}  // namespace outboard::split
