// SPDX-License-Identifier: Apache-2.0
// A band: what one node computes of some units, from output rows back to the input rows that it
// needs. Pure; a BandWork belongs to one thread and is reused from band to band.
#pragma once

#include <span>
#include <vector>

#include "split/graph/graph.h"

namespace outboard::split {

struct TensorRows {
  int tensor = -1;
  Rows rows;
  bool operator==(const TensorRows&) const = default;
};

// Partial results of one divided reduction: slot i holds that of the input rows slot_rows[i].
struct SlotRows {
  int tensor = -1;  // the kSlots tensor
  std::vector<Rows> slot_rows;
};

class BandWork {
 public:
  explicit BandWork(const Graph& graph) : graph_(graph), need_(graph.tensors.size()) {}

  // Walks the operators of units [first, end) backwards from the wanted rows. `slots` names the
  // slots of every divided reduction that makes a wanted tensor or that a wanted tensor is combined
  // from.
  void run(int first_unit, int end_unit, std::span<const TensorRows> wanted,
           std::span<const SlotRows> slots);

  // The rows that are computed of a tensor (made in these units) or needed of it (made before
  // them).
  Rows need(int tensor) const { return need_[static_cast<std::size_t>(tensor)]; }
  // The rows that an operator runs over: output rows, or input rows of a partial one; empty: not
  // run.
  Rows run_rows(const Op& op) const;
  // Tensors from before these units, with the rows needed.
  const std::vector<TensorRows>& inputs() const { return inputs_; }
  const Graph& graph() const { return graph_; }
  std::span<const SlotRows> slots() const { return slots_; }
  const SlotRows* slots_of(int tensor) const;

 private:
  const Graph& graph_;
  std::vector<Rows> need_;
  std::vector<int> touched_;
  std::vector<TensorRows> inputs_;
  std::span<const SlotRows> slots_;
};

}  // namespace outboard::split
