// SPDX-License-Identifier: Apache-2.0
#include "split/exec/corrections.h"

#include <algorithm>
#include <set>

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

struct Sum {
  double planned_us = 0, took_us = 0;

  // One trial is not worth more than that.
  double ratio() const {
    return planned_us > 0 && took_us > 0 ? std::clamp(took_us / planned_us, 0.2, 5.0) : 1;
  }
};

}  // namespace

Corrections::Corrections(int members, int units)
    : units_(at(members), std::vector<double>(at(units), 1)), overall_(at(members), 1) {}

void Corrections::learn(const Program& program, const Layout& planned,
                        std::span<const double> took_us) {
  const std::size_t blocks = program.blocks.size();
  std::vector<Sum> of_block(at(program.size()) * blocks), of_member(at(program.size()));
  for (std::size_t i = 0; i < planned.pieces.size(); ++i) {
    const Piece& piece = planned.pieces[i];
    if (took_us[i] <= 0 || piece.time_us <= 0) continue;
    for (Sum* s : {&of_block[at(piece.participant) * blocks + at(piece.block)],
                   &of_member[at(piece.participant)]}) {
      s->planned_us += piece.time_us;
      s->took_us += took_us[i];
    }
  }
  for (int p = 0; p < program.size(); ++p) {
    const auto member = at(program.participants[at(p)]);
    overall_[member] *= of_member[at(p)].ratio();
    for (std::size_t b = 0; b < blocks; ++b) {
      const Sum& sum = of_block[at(p) * blocks + b];
      const double by = sum.planned_us > 0 ? sum.ratio() : of_member[at(p)].ratio();
      for (int u = program.blocks[b].first_unit; u < program.blocks[b].end_unit; ++u)
        units_[member][at(u)] *= by;
    }
  }
}

profile::NodeRows Corrections::applied(int member, const Graph& graph,
                                       profile::NodeRows node) const {
  if (at(member) >= units_.size()) return node;
  node.flops_per_s /= overall_[at(member)];
  node.memory_bytes_per_s /= overall_[at(member)];
  std::set<std::string> done;  // two units may share a name, and then a curve
  for (std::size_t u = 0; u < graph.units.size(); ++u) {
    const auto curve = node.units.find(graph.units[u].name);
    if (curve == node.units.end() || !done.insert(curve->first).second) continue;
    for (double& us : curve->second.time_us) us *= units_[at(member)][u];
  }
  return node;
}

}  // namespace outboard::split::exec
