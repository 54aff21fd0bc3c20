// SPDX-License-Identifier: Apache-2.0
#include "tests/split/random_program.h"

#include <algorithm>

namespace outboard::split::testing {

Cluster equal_nodes(int n, double flops, double delay_us, double rate_bits_per_s) {
  Cluster c;
  for (int i = 0; i < n; ++i) {
    profile::NodeRows node;
    node.name = "n" + std::to_string(i);
    node.flops_per_s = flops;
    c.nodes.push_back(node);
  }
  c.links.assign(static_cast<std::size_t>(n * n), {delay_us, rate_bits_per_s / 8});
  return c;
}

Program random_program(const Graph& g, const Cluster& cluster, std::mt19937_64& random) {
  const auto pick = [&](int lo, int hi) {
    return lo + static_cast<int>(random() % static_cast<std::uint64_t>(hi - lo + 1));
  };
  Program p;
  p.participants = chain(cluster, pick(1, cluster.size()));
  p.boundary_first = pick(0, 1) == 1;
  p.scatter_parts = pick(1, 3);
  const int units = static_cast<int>(g.units.size());
  for (int u = 0; u < units;) {
    int end = u + 1;
    while (end < units && !g.units[static_cast<std::size_t>(end)].hard_border && pick(0, 2) != 0)
      ++end;
    Block b{u, end, unit_rows(g, end - 1), {0}, pick(0, 3), pick(0, 4) == 0};
    for (int i = 1; i < p.size(); ++i) b.cuts.push_back(pick(0, b.rows));
    b.cuts.push_back(b.rows);
    std::sort(b.cuts.begin(), b.cuts.end());
    p.blocks.push_back(std::move(b));
    u = end;
  }
  return p;
}

}  // namespace outboard::split::testing
