// SPDX-License-Identifier: Apache-2.0
#include "split/plan/schemes.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

namespace outboard::split {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

constexpr std::array<std::pair<Scheme, std::string_view>, 6> kNames = {{
    {Scheme::kAuto, "auto"},
    {Scheme::kHalp, "halp"},
    {Scheme::kModnn, "modnn"},
    {Scheme::kDpfp, "dpfp"},
    {Scheme::kTiles, "tiles"},
    {Scheme::kSingle, "single"},
}};

std::vector<int> every_unit(const Graph& graph) {
  std::vector<int> starts(graph.units.size());
  std::iota(starts.begin(), starts.end(), 0);
  return starts;
}

// Rows of the host's strip at the output of each unit: two, and twice the stride in front of a unit
// that strides, so that its output has two.
int strip_rows(const Graph& graph, int unit) {
  if (unit + 1 >= static_cast<int>(graph.units.size())) return 2;
  int stride = 1;
  for (const Op& op : graph.ops_of(unit + 1, unit + 2)) stride = std::max(stride, op.window.stride);
  return 2 * stride;
}

constexpr int kLongestBlock = 16;  // units; longer ones never pay

// The cost of one block for every node, nothing overlapped.
class BlockCosts {
 public:
  BlockCosts(const Graph& graph, const Cluster& cluster, const std::vector<int>& participants,
             const std::vector<double>& shares, bool via_host)
      : graph_(graph),
        cluster_(cluster),
        participants_(participants),
        shares_(shares),
        via_host_(via_host),
        work_(graph) {}

  double operator()(int first, int end) {
    const int host =
        static_cast<int>(std::find(participants_.begin(), participants_.end(), cluster_.host) -
                         participants_.begin());
    Block b{first, end, unit_rows(graph_, end - 1), {}, 0, false};
    b.cuts = cut_rows(b.rows, shares_);
    double slowest = 0, host_wire = 0, worst_wire = 0;
    // Of many equal bands in the middle one stands for all.
    const int n = static_cast<int>(participants_.size());
    for (int p = 0; p < n; ++p) {
      if (n > 4 && p != 0 && p != host && p != n - 1 && p != 1) continue;
      const double stands_for =
          n > 4 && p == 1 ? n - (host == 1 || host == n - 1 || host == 0 ? 2 : 3) : 1;
      wanted_.clear();
      double out_bytes = 0;
      for (const Op& op : graph_.ops_of(first, end))
        for (int t : op.outputs) {
          const Tensor& tensor = graph_.tensors[at(t)];
          const bool leaves =
              tensor.is_output || (!tensor.consumers.empty() &&
                                   tensor.consumers.back() >= graph_.units[at(end) - 1].end_op);
          if (!leaves || tensor.kind != TensorKind::kRows) continue;
          wanted_.push_back({t, b.owned(p, tensor.rows)});
          out_bytes += static_cast<double>(tensor.bytes(wanted_.back().rows));
        }
      work_.run(first, end, wanted_, {});
      slowest = std::max(slowest, time_us(first, end, participants_[at(p)]));
      double in_bytes = 0;
      for (const auto& in : work_.inputs()) {
        const Tensor& tensor = graph_.tensors[at(in.tensor)];
        const Rows own = tensor.host_owned ? (p == host ? Rows{0, tensor.rows} : Rows{})
                                           : b.owned(p, tensor.rows);
        const Rows have = via_host_ ? Rows{} : intersect(in.rows, own);
        in_bytes += static_cast<double>(tensor.bytes(in.rows) - tensor.bytes(have));
      }
      if (p == host) {
        worst_wire =
            std::max(worst_wire, via_host_ ? 0 : wire_us(in_bytes, host, host == 0 ? 1 : host - 1));
        continue;
      }
      host_wire += stands_for * (wire_us(in_bytes, host, p) + wire_us(out_bytes, p, host));
      worst_wire = std::max(worst_wire, wire_us(in_bytes, host, p));
    }
    // Through the host everything passes its one interface; between neighbours they go side by
    // side.
    return slowest +
           (via_host_
                ? host_wire
                : worst_wire * (first == 0 ? static_cast<double>(participants_.size()) - 1 : 1));
  }

 private:
  double wire_us(double bytes, int from, int to) const {
    if (bytes <= 0 || to >= static_cast<int>(participants_.size()) || from == to) return 0;
    return profile::transfer_us(cluster_.link(participants_[at(from)], participants_[at(to)]),
                                static_cast<std::uint64_t>(bytes));
  }
  double time_us(int first, int end, int node) const {
    double sum = 0;
    for (const Op& op : graph_.ops_of(first, end)) {
      const Rows rows = work_.run_rows(op);
      if (!rows.empty() && !op.fused)
        sum +=
            profile::work_us(cluster_.node(node), op.fixed_flops + op.flops_per_row * rows.count(),
                             op.fixed_bytes + op.bytes_per_row * rows.count());
    }
    return sum > 0 ? sum + cluster_.node(node).call_us : 0;
  }

  const Graph& graph_;
  const Cluster& cluster_;
  const std::vector<int>& participants_;
  const std::vector<double>& shares_;
  bool via_host_;
  BandWork work_;
  std::vector<TensorRows> wanted_;
};

// Equal or proportional shares over fused blocks; the head on the host. The number of nodes is the
// one with the least sum of block costs.
Program fused(const Graph& graph, const Cluster& cluster, bool via_host, const char* name) {
  const int head = head_unit(graph);
  Program best = single(graph, cluster, cluster.host);
  double best_cost = std::numeric_limits<double>::infinity();
  for (int n = 2; n <= cluster.size(); ++n) {
    const auto participants = chain(cluster, n);
    const std::vector<double> shares(at(n), 1.0);
    auto starts = fuse_blocks(graph, cluster, participants, shares, via_host);
    BlockCosts cost(graph, cluster, participants, shares, via_host);
    double sum = 0;
    for (std::size_t i = 0; i < starts.size(); ++i)
      sum += cost(starts[i], i + 1 < starts.size() ? starts[i + 1] : head);
    if (sum >= best_cost) continue;
    best_cost = sum;
    for (int u = head; u < static_cast<int>(graph.units.size()); ++u) starts.push_back(u);
    best = make_program(graph, cluster, participants, shares, starts, head);
    for (auto& b : best.blocks) b.via_host = via_host && b.first_unit < head;
  }
  best.scheme = name;
  return best;
}

}  // namespace

std::optional<Scheme> scheme_of(std::string_view name) {
  for (const auto& [scheme, text] : kNames)
    if (text == name) return scheme;
  return std::nullopt;
}

std::string_view name_of(Scheme scheme) {
  for (const auto& [s, text] : kNames)
    if (s == scheme) return text;
  return "?";
}

Program make_program(const Graph& graph, const Cluster& cluster, std::vector<int> participants,
                     const std::vector<double>& shares, const std::vector<int>& starts,
                     int host_from) {
  Program program;
  program.participants = std::move(participants);
  const int host = program.host_index(cluster), units = static_cast<int>(graph.units.size());
  for (std::size_t i = 0; i < starts.size(); ++i) {
    Block b{starts[i], i + 1 < starts.size() ? starts[i + 1] : units, 0, {}, 0, false};
    b.rows = unit_rows(graph, b.end_unit - 1);
    b.cuts = b.first_unit >= host_from ? give_all(b.rows, program.size(), host)
                                       : cut_rows(b.rows, shares);
    program.blocks.push_back(std::move(b));
  }
  return program;
}

Program single(const Graph& graph, const Cluster& cluster, int node) {
  std::vector<int> participants = {cluster.host};
  if (node != cluster.host) participants.push_back(node);
  std::vector<double> shares(participants.size(), 0.0);
  shares.back() = 1;
  // One call on the host. Elsewhere a border stays where something cannot be computed twice, so
  // that the host does not repeat the image to get at the result.
  std::vector<int> starts = {0};
  for (int u = 1; u < static_cast<int>(graph.units.size()) && node != cluster.host; ++u)
    if (graph.units[at(u)].hard_border) starts.push_back(u);
  Program program = make_program(graph, cluster, participants, shares, starts,
                                 static_cast<int>(graph.units.size()));
  program.scheme = node == cluster.host ? "single" : "other node";
  return program;
}

std::optional<Program> halp(const Graph& graph, const Cluster& cluster) {
  if (cluster.size() < 3) return std::nullopt;
  const int head = head_unit(graph);
  Program program =
      make_program(graph, cluster, chain(cluster, 3), {1, 1, 1}, every_unit(graph), head);
  const int host = program.host_index(cluster);
  bool on_host = false;
  for (auto& b : program.blocks) {
    const int strip = std::min(strip_rows(graph, b.first_unit), b.rows);
    on_host |= b.first_unit >= head || b.rows < strip + 2;
    if (on_host) {
      b.cuts = give_all(b.rows, 3, host);
      continue;
    }
    const int top = (b.rows - strip) / 2;
    b.cuts = {0, top, top + strip, b.rows};
    b.interior_pieces = 1;
  }
  program.scheme = "halp";
  return program;
}

Program modnn(const Graph& graph, const Cluster& cluster) {
  const auto participants = chain(cluster, cluster.size());
  std::vector<double> shares;
  shares.reserve(participants.size());
  for (int p : participants) shares.push_back(speed(graph, cluster.node(p)));
  const int head = head_unit(graph);
  Program program = make_program(graph, cluster, participants, shares, every_unit(graph), head);
  for (auto& b : program.blocks) b.via_host = b.first_unit < head;
  program.scheme = "modnn";
  return program;
}

Program dpfp(const Graph& graph, const Cluster& cluster) {
  return fused(graph, cluster, false, "dpfp");
}
Program tiles(const Graph& graph, const Cluster& cluster) {
  return fused(graph, cluster, true, "tiles");
}

Program baseline(Scheme scheme, const Graph& graph, const Cluster& cluster) {
  Program one = single(graph, cluster, cluster.host);
  if (cluster.size() < 2) return one;
  switch (scheme) {
    case Scheme::kHalp:
      return halp(graph, cluster).value_or(one);
    case Scheme::kModnn:
      return modnn(graph, cluster);
    case Scheme::kDpfp:
      return dpfp(graph, cluster);
    case Scheme::kTiles:
      return tiles(graph, cluster);
    default:
      return one;
  }
}

std::vector<int> fuse_blocks(const Graph& graph, const Cluster& cluster,
                             const std::vector<int>& participants,
                             const std::vector<double>& shares, bool via_host) {
  const int head = head_unit(graph);
  BlockCosts cost(graph, cluster, participants, shares, via_host);
  std::vector<double> best(at(head) + 1, std::numeric_limits<double>::infinity());
  std::vector<int> from(at(head) + 1, 0);
  best[0] = 0;
  for (int end = 1; end <= head; ++end)
    for (int first = end - 1; first >= std::max(0, end - kLongestBlock); --first) {
      const double sum = best[at(first)] + cost(first, end);
      if (sum < best[at(end)]) {
        best[at(end)] = sum;
        from[at(end)] = first;
      }
      if (graph.units[at(first)].hard_border)
        break;  // a block may begin here, but not reach over it
    }
  std::vector<int> starts;
  for (int end = head; end > 0; end = from[at(end)]) starts.push_back(from[at(end)]);
  std::reverse(starts.begin(), starts.end());
  return starts;
}

}  // namespace outboard::split
