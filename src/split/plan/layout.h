// SPDX-License-Identifier: Apache-2.0
// A program spelled out: every call of every node, every message, and what waits for what. The
// simulator gives it times; the engine does it. A halo belongs to a tensor, not to an edge: the
// rows of a tensor that a node needs in any later block travel to it once, when they have been
// made. Pure. A LayoutBuilder is one thread's and keeps its memory from program to program.
#pragma once

#include <vector>

#include "split/graph/band.h"
#include "split/plan/plan.h"

namespace outboard::split {

// One call: some rows of a block's results on one node.
struct Piece {
  int block = 0;
  int participant = 0;
  bool boundary = false;  // a neighbour waits for its rows, or it waits for a neighbour's
  int order = 0;          // within the block and participant
  double time_us = 0;
  std::vector<TensorRows> wanted;
  std::vector<TensorRows> inputs;  // of tensors from earlier blocks
};

struct Message {
  int block = -1;  // that makes its rows; -1: rows of the model's inputs
  int from = 0;    // participants
  int to = 0;
  double size_bytes = 0;
  int part = 0;  // of a scatter in several parts
  std::vector<TensorRows> parts;
};

struct Layout {
  std::vector<Piece> pieces;
  std::vector<Message> messages;
  // Tasks are pieces and then messages. waits[task]: the tasks that must be done first.
  std::vector<std::vector<int>> waits;
  std::vector<SlotRows> slots;
  std::vector<double>
      memory_bytes;  // by participant: weights of every call and the largest block's activations

  int tasks() const { return static_cast<int>(pieces.size() + messages.size()); }
  double sent_bytes() const;
};

class LayoutBuilder {
 public:
  LayoutBuilder(const Graph& graph, const Cluster& cluster)
      : graph_(graph), cluster_(cluster), work_(graph) {}
  Layout build(const Program& program);

 private:
  struct Context;
  void find_slots(Context& c) const;
  void cut_block(Context& c, int block);
  void add_piece(Context& c, int block, int participant, const std::vector<TensorRows>& wanted,
                 bool boundary, int order);
  Rows zone(const Context& c, int block, int participant, int rows, bool top) const;
  void send_tensor(Context& c, int tensor);
  void find_waits(Context& c) const;
  double piece_time_us(const Context& c, int block, int participant);

  const Graph& graph_;
  const Cluster& cluster_;
  BandWork work_;
};

}  // namespace outboard::split
