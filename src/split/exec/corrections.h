// SPDX-License-Identifier: Apache-2.0
// What the frames of a plan took, against what it was planned to, block by block. Profiles are
// measured alone and again and again; in a frame a layer finds other rows in the caches, and
// another node at work beside it on the same memory. Plain values, pure.
#pragma once

#include <span>
#include <vector>

#include "split/plan/layout.h"

namespace outboard::split::exec {

class Corrections {
 public:
  Corrections() = default;
  Corrections(int members, int units);
  bool empty() const { return units_.empty(); }

  // A plan was tried. `planned`: its layout, with the times that these corrections foretold;
  // `took_us`: what each of its pieces took, 0: not known. Participants are members.
  void learn(const Program& program, const Layout& planned, std::span<const double> took_us);

  // The profile of a member, as it is at work. Units that it never computed: as the others.
  profile::NodeRows applied(int member, const Graph& graph, profile::NodeRows node) const;

 private:
  std::vector<std::vector<double>> units_;  // by member: measured over profiled
  std::vector<double> overall_;             // by member
};

}  // namespace outboard::split::exec
