// SPDX-License-Identifier: Apache-2.0
// A plan: who owns which rows in each block of units, and how a block's work is cut into calls. All
// schemes (HALP, MoDNN, DPFP, fused tiles, one node, our own) are plans of this one form, so the
// same simulator and the same engine run them. Plain values, immutable once made.
#pragma once

#include <string>
#include <vector>

#include "split/graph/graph.h"
#include "split/plan/cluster.h"

namespace outboard::split {

// Consecutive units that are computed without an exchange in between.
struct Block {
  int first_unit = 0;
  int end_unit = 0;
  // Participant i owns rows [cuts[i], cuts[i+1]) of tensors with `rows` rows that leave the block;
  // of other heights the same in proportion.
  int rows = 1;
  std::vector<int> cuts;
  // 0: one call. k > 0: rows that neighbours wait for, or that wait for neighbours, are calls of
  // their own, and the rest is k calls.
  int interior_pieces = 0;
  // All results go to the host, which hands every node what it needs next (MoDNN, fused tiles).
  bool via_host = false;

  Rows owned(int participant, int tensor_rows) const;
};

// How one image is computed.
struct Program {
  std::string scheme;
  std::vector<int> participants;  // nodes from the top band to the bottom one; the host among them
  std::vector<Block> blocks;
  bool boundary_first = false;  // boundary rows of a later block before the interior of this one
  int scatter_parts = 1;        // messages for each node's part of the input

  int size() const { return static_cast<int>(participants.size()); }
  int host_index(const Cluster& cluster) const;
};

struct Plan {
  std::vector<Program> programs;
  std::vector<int> images;  // the program of each image in the queue, in order
};

// Cuts of `rows` rows in proportion to the shares, rounded so that errors do not add up.
std::vector<int> cut_rows(int rows, const std::vector<double>& shares);
// Everything to one participant.
std::vector<int> give_all(int rows, int participants, int to);

// The height by which a block that ends with this unit is cut.
int unit_rows(const Graph& graph, int unit);

// The first unit of the head: from there on nothing has rows of an image (fully connected layers,
// reduced statistics, host operators). units.size() where there is none.
int head_unit(const Graph& graph);

// Host in the middle, the fastest others next to it; `count` nodes in all, the fastest ones.
std::vector<int> chain(const Cluster& cluster, int count);
// Effective arithmetic rate in this graph, for shares.
double speed(const Graph& graph, const profile::NodeRows& node);

}  // namespace outboard::split
