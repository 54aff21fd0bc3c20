// SPDX-License-Identifier: Apache-2.0
#include "split/graph/band.h"

namespace outboard::split {

const SlotRows* BandWork::slots_of(int tensor) const {
  for (const auto& s : slots_)
    if (s.tensor == tensor) return &s;
  return nullptr;
}

void BandWork::run(int first_unit, int end_unit, std::span<const TensorRows> wanted,
                   std::span<const SlotRows> slots) {
  for (int t : touched_) need_[static_cast<std::size_t>(t)] = {};
  touched_.clear();
  inputs_.clear();
  slots_ = slots;
  const int first_op = graph_.units[static_cast<std::size_t>(first_unit)].first_op;
  const int end_op = graph_.units[static_cast<std::size_t>(end_unit) - 1].end_op;
  const auto add = [&](int tensor, Rows rows) {
    if (rows.empty()) return;
    Rows& need = need_[static_cast<std::size_t>(tensor)];
    if (need.empty()) {
      touched_.push_back(tensor);
      if (graph_.tensors[static_cast<std::size_t>(tensor)].producer < first_op)
        inputs_.push_back({tensor, {}});
    }
    need = hull(need, rows);
  };
  for (const auto& w : wanted) add(w.tensor, w.rows);
  for (int i = end_op - 1; i >= first_op; --i) {
    const Op& op = graph_.ops[static_cast<std::size_t>(i)];
    Rows out;
    for (int t : op.outputs) out = hull(out, need_[static_cast<std::size_t>(t)]);
    if (out.empty()) continue;
    for (int t : op.outputs)
      if (need_[static_cast<std::size_t>(t)] != out) add(t, out);
    if (op.kind == OpKind::kPartial) {
      const SlotRows* s = slots_of(op.outputs[0]);
      for (int k = out.lo; s && k < out.hi && k < static_cast<int>(s->slot_rows.size()); ++k)
        add(op.inputs[0].tensor, s->slot_rows[static_cast<std::size_t>(k)]);
      continue;
    }
    for (const auto& in : op.inputs) {
      const Tensor& t = graph_.tensors[static_cast<std::size_t>(in.tensor)];
      if (t.kind == TensorKind::kSlots) {
        const SlotRows* s = slots_of(in.tensor);
        add(in.tensor, {0, s ? static_cast<int>(s->slot_rows.size()) : 1});
      } else {
        add(in.tensor, in.map.needs(out, t.rows));
      }
    }
  }
  for (auto& in : inputs_) in.rows = need_[static_cast<std::size_t>(in.tensor)];
}

Rows BandWork::run_rows(const Op& op) const {
  if (op.kind == OpKind::kPartial) {
    const Rows slot = need(op.outputs[0]);
    const SlotRows* s = slot.empty() ? nullptr : slots_of(op.outputs[0]);
    Rows rows;
    for (int k = slot.lo; s && k < slot.hi; ++k)
      rows = hull(rows, s->slot_rows[static_cast<std::size_t>(k)]);
    return rows;
  }
  return op.outputs.empty() ? Rows{} : need(op.outputs[0]);
}

}  // namespace outboard::split
