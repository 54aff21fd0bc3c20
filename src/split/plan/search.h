// SPDX-License-Identifier: Apache-2.0
// The planner: finds who owns which rows, which units are fused, how the work is cut into calls and
// where the head runs, by simulating candidates. It begins with the published schemes and with
// shares in proportion to speed, and climbs from the best of them; so no plan is behind any
// baseline in the model, nor behind one node. Pure and deterministic: the effort is counted in
// simulated tasks, not in seconds.
#pragma once

#include <string>
#include <vector>

#include "split/plan/schemes.h"
#include "split/simulate/simulate.h"

namespace outboard::split {

struct PlanRequest {
  int images = 1;          // in the queue
  double deadline_us = 0;  // from now; 0: none. Late images count before the makespan
  double effort = 1;       // 1: about half a second for a model of a hundred units
  // What a plan may do; less, and without the published schemes, to see what each is worth.
  bool overlap = true;      // boundary rows as calls of their own, and first
  bool fuse = true;         // several units in a block
  bool divide_head = true;  // the head on several nodes

  bool restricted() const { return !overlap || !fuse || !divide_head; }
};

// What a program is made from; kept so that a change of rates or load can start from it.
struct Choice {
  std::vector<int> participants;
  std::vector<double> shares;
  std::vector<char> starts;  // by unit: begins a block
  std::vector<int> pieces;   // by unit that begins a block
  std::vector<std::vector<int>>
      shifts;  // by unit that begins a block: rows added to each inner cut
  std::vector<std::pair<int, std::vector<int>>>
      level_shifts;    // by height: the same for every block
  int host_until = 0;  // units before are the host's alone
  int host_from = 0;   // and these from here on
  bool boundary_first = false;
  int scatter_parts = 1;
};

struct Alternative {
  std::string name;  // "halp", "auto on 2 nodes", ...
  double makespan_us = 0;
  std::string refused;  // why it cannot be had (memory); empty: it can
};

struct PlanResult {
  Plan plan;
  std::vector<Layout> layouts;
  Schedule schedule;
  Choice choice;                          // of the split program; empty participants: none
  std::vector<Alternative> alternatives;  // what else was looked at, the best first
  double single_us = 0;                   // all images one after the other on the host
  bool late = false;                      // some image misses the deadline
};

PlanResult plan(const Graph& graph, const Cluster& cluster, const PlanRequest& request = {});

// After a change of rates, load or speeds: from the choice in use, with a small effort.
PlanResult replan(const Graph& graph, const Cluster& cluster, const PlanResult& before,
                  const PlanRequest& request = {});

// One scheme, simulated. Images are computed one after the other by the same program.
PlanResult plan_baseline(Scheme scheme, const Graph& graph, const Cluster& cluster, int images = 1);

Program program_of(const Graph& graph, const Cluster& cluster, const Choice& choice);

}  // namespace outboard::split
