// SPDX-License-Identifier: Apache-2.0
// From the last block to the first: what later blocks need of a tensor is known when the block that
// makes it is cut, so its boundary rows (those that others need) can be calls of their own.
#include "split/plan/layout.h"

#include <algorithm>
#include <cmath>

namespace outboard::split {

struct LayoutBuilder::Context {
  const Program& program;
  int n = 0;
  int host = 0;
  Layout layout;
  std::vector<int> block_of_unit;
  std::vector<Rows> later;              // participant * tensors + tensor: needed in later blocks
  std::vector<std::vector<int>> made;   // block * n + participant -> pieces
  std::vector<std::vector<int>> inbox;  // (block + 1) * n + participant -> messages to it
  std::vector<double> activations;      // by participant: largest block

  Rows& need(int participant, int tensor, std::size_t tensors) {
    return later[static_cast<std::size_t>(participant) * tensors +
                 static_cast<std::size_t>(tensor)];
  }
};

namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

bool overlap(const std::vector<TensorRows>& all, TensorRows r) {
  return std::any_of(all.begin(), all.end(), [&](const TensorRows& x) {
    return x.tensor == r.tensor && !intersect(x.rows, r.rows).empty();
  });
}

// The parts of `need` outside of `own`: at most two.
void subtract(Rows need, Rows own, std::vector<Rows>& out) {
  out.clear();
  if (need.empty()) return;
  if (own.empty() || intersect(need, own).empty()) {
    out.push_back(need);
    return;
  }
  if (need.lo < own.lo) out.push_back({need.lo, own.lo});
  if (need.hi > own.hi) out.push_back({own.hi, need.hi});
}

}  // namespace

double Layout::sent_bytes() const {
  double sum = 0;
  for (const auto& m : messages) sum += m.size_bytes;
  return sum;
}

// Slot i of a divided reduction: the i-th participant that owns any rows of its input.
void LayoutBuilder::find_slots(Context& c) const {
  for (const auto& op : graph_.ops) {
    if (op.kind != OpKind::kPartial) continue;
    SlotRows s{op.outputs[0], {}};
    const Block& block = c.program.blocks[at(c.block_of_unit[at(op.unit)])];
    const int rows = graph_.tensors[at(op.inputs[0].tensor)].rows;
    for (int i = 0; i < c.n; ++i)
      if (const Rows r = block.owned(i, rows); !r.empty()) s.slot_rows.push_back(r);
    c.layout.slots.push_back(std::move(s));
  }
}

double LayoutBuilder::piece_time_us(const Context& c, int block, int participant) {
  const Block& b = c.program.blocks[at(block)];
  const auto& node = cluster_.node(c.program.participants[at(participant)]);
  double time_us = 0;
  for (int u = b.first_unit; u < b.end_unit; ++u) {
    const Unit& unit = graph_.units[at(u)];
    const auto curve = node.units.empty() ? node.units.end() : node.units.find(unit.name);
    if (curve != node.units.end()) {
      const Rows rows = work_.run_rows(graph_.ops[at(unit.heaviest_op)]);
      if (!rows.empty()) {
        time_us += curve->second.at(rows.count());
        continue;
      }
    }
    for (int i = unit.first_op; i < unit.end_op; ++i) {
      const Op& op = graph_.ops[at(i)];
      if (op.fused) continue;
      const Rows rows = work_.run_rows(op);
      if (rows.empty()) continue;
      const int n = op.flops_per_row > 0 || op.bytes_per_row > 0 ? rows.count() : 0;
      time_us += profile::work_us(node, op.fixed_flops + op.flops_per_row * n,
                                  op.fixed_bytes + op.bytes_per_row * n);
    }
  }
  return time_us > 0 ? time_us + node.call_us : 0;
}

void LayoutBuilder::add_piece(Context& c, int block, int participant,
                              const std::vector<TensorRows>& wanted, bool boundary, int order) {
  const Block& b = c.program.blocks[at(block)];
  work_.run(b.first_unit, b.end_unit, wanted, c.layout.slots);
  Piece piece{block,  participant,   boundary, order, piece_time_us(c, block, participant),
              wanted, work_.inputs()};
  double activations = 0;
  for (const auto& in : piece.inputs) {
    Rows& need = c.need(participant, in.tensor, graph_.tensors.size());
    need = hull(need, in.rows);
    activations += static_cast<double>(graph_.tensors[at(in.tensor)].bytes(in.rows));
  }
  for (const Op& op : graph_.ops_of(b.first_unit, b.end_unit)) {
    const Rows rows = work_.run_rows(op);
    if (rows.empty()) continue;
    for (int t : op.outputs)
      activations = std::max(activations,
                             2.0 * static_cast<double>(graph_.tensors[at(t)].bytes(work_.need(t))));
    const int all = op.kind == OpKind::kPartial ? graph_.tensors[at(op.inputs[0].tensor)].rows
                                                : graph_.tensors[at(op.outputs[0])].rows;
    c.layout.memory_bytes[at(participant)] +=
        op.weights_by_row ? op.weight_bytes * rows.count() / all : op.weight_bytes;
  }
  c.activations[at(participant)] = std::max(c.activations[at(participant)], activations);
  c.made[at(block) * at(c.n) + at(participant)].push_back(static_cast<int>(c.layout.pieces.size()));
  c.layout.pieces.push_back(std::move(piece));
}

// The rows at the top (bottom) of a band, of tensors of height `rows`, that others need.
Rows LayoutBuilder::zone(const Context& c, int block, int participant, int rows, bool top) const {
  const Block& b = c.program.blocks[at(block)];
  const Rows own = b.owned(participant, rows);
  const int middle = (own.lo + own.hi) / 2;
  const std::size_t tensors = graph_.tensors.size();
  Rows z;
  for (const Op& op : graph_.ops_of(b.first_unit, b.end_unit))
    for (int t : op.outputs) {
      if (graph_.tensors[at(t)].kind != TensorKind::kRows || graph_.tensors[at(t)].rows != rows)
        continue;
      for (int j = 0; j < c.n; ++j) {
        if (j == participant) continue;
        const Rows r = intersect(c.later[at(j) * tensors + at(t)], own);
        if (r.empty()) continue;
        if (top && r.lo < middle && r.hi <= middle) z = hull(z, {own.lo, r.hi});
        if (!top && r.lo >= middle) z = hull(z, {r.lo, own.hi});
      }
    }
  return z;
}

void LayoutBuilder::cut_block(Context& c, int block) {
  const Block& b = c.program.blocks[at(block)];
  const int end_op = graph_.units[at(b.end_unit) - 1].end_op;
  const std::size_t tensors = graph_.tensors.size();
  std::vector<TensorRows> wanted, part;
  for (int p = 0; p < c.n; ++p) {
    wanted.clear();
    int height = 0;
    bool one_height = true;
    for (const Op& op : graph_.ops_of(b.first_unit, b.end_unit))
      for (int t : op.outputs) {
        const Tensor& tensor = graph_.tensors[at(t)];
        if (!tensor.is_output && (tensor.consumers.empty() || tensor.consumers.back() < end_op))
          continue;
        Rows rows;
        if (tensor.host_owned) {
          rows = p == c.host ? Rows{0, tensor.rows} : Rows{};
        } else if (tensor.kind == TensorKind::kRows) {
          rows = b.owned(p, tensor.rows);
          if (height != 0 && height != tensor.rows) one_height = false;
          height = tensor.rows;
        } else if (tensor.kind == TensorKind::kWhole) {
          rows = c.later[at(p) * tensors + at(t)];
        } else {
          const int in_rows = graph_.tensors[at(op.inputs[0].tensor)].rows;
          const Rows own = b.owned(p, in_rows);
          for (const auto& s : c.layout.slots)
            for (int k = 0; s.tensor == t && k < static_cast<int>(s.slot_rows.size()); ++k)
              if (!own.empty() && s.slot_rows[at(k)] == own) rows = {k, k + 1};
          one_height = false;
        }
        if (!rows.empty()) wanted.push_back({t, rows});
      }
    if (wanted.empty()) continue;
    const auto whole_block = [&] { add_piece(c, block, p, wanted, true, 0); };
    if (b.interior_pieces == 0 || !one_height || height == 0) {
      whole_block();
      continue;
    }
    const Rows own = b.owned(p, height);
    const Rows top = zone(c, block, p, height, true), bottom = zone(c, block, p, height, false);
    const Rows rest{own.lo + top.count(), own.hi - bottom.count()};
    if (own.empty() || rest.count() < b.interior_pieces || (top.empty() && bottom.empty())) {
      whole_block();
      continue;
    }
    int order = 0;
    const auto add = [&](Rows rows, bool boundary) {
      part.clear();
      for (const auto& w : wanted)
        if (graph_.tensors[at(w.tensor)].kind == TensorKind::kRows &&
            !graph_.tensors[at(w.tensor)].host_owned)
          part.push_back({w.tensor, rows});
        else if (order == 0)
          part.push_back(w);
      add_piece(c, block, p, part, boundary, order++);
    };
    if (!top.empty()) add(top, true);
    if (!bottom.empty()) add(bottom, true);
    for (int k = 0; k < b.interior_pieces; ++k)
      add({rest.lo + rest.count() * k / b.interior_pieces,
           rest.lo + rest.count() * (k + 1) / b.interior_pieces},
          false);
  }
}

// The messages that bring a tensor's rows to where they are needed.
void LayoutBuilder::send_tensor(Context& c, int tensor) {
  const Tensor& t = graph_.tensors[at(tensor)];
  if (t.kind == TensorKind::kWhole && !t.host_owned) return;  // everyone makes it
  const int block = t.producer < 0 ? -1 : c.block_of_unit[at(graph_.ops[at(t.producer)].unit)];
  if (block >= 0 && !t.is_output &&
      (t.consumers.empty() ||
       c.block_of_unit[at(graph_.ops[at(t.consumers.back())].unit)] == block))
    return;  // stays in its block
  const bool via_host = block >= 0 && c.program.blocks[at(block)].via_host && !t.host_owned;
  const auto owned = [&](int i) {
    if (t.host_owned) return i == c.host ? Rows{0, t.rows} : Rows{};
    if (t.kind == TensorKind::kRows) return c.program.blocks[at(block)].owned(i, t.rows);
    for (int p : c.made[at(block) * at(c.n) + at(i)])
      for (const auto& w : c.layout.pieces[at(p)].wanted)
        if (w.tensor == tensor) return w.rows;
    return Rows{};
  };
  const auto add = [&](int from, int to, Rows rows, int part) {
    if (rows.empty() || from == to) return;
    auto& inbox = c.inbox[at(block + 1) * at(c.n) + at(to)];
    Message* message = nullptr;
    for (int m : inbox)
      if (auto& x = c.layout.messages[at(m)]; x.from == from && x.part == part) message = &x;
    if (!message) {
      inbox.push_back(static_cast<int>(c.layout.messages.size()));
      c.layout.messages.push_back({block, from, to, 0, part, {}});
      message = &c.layout.messages.back();
    }
    message->parts.push_back({tensor, rows});
    message->size_bytes += static_cast<double>(t.bytes(rows));
  };
  std::vector<Rows> missing;
  for (int j = 0; j < c.n; ++j) {
    const Rows need = c.need(j, tensor, graph_.tensors.size());
    if (via_host) {
      if (j == c.host) {
        for (int i = 0; i < c.n; ++i) add(i, c.host, owned(i), 0);
      } else {
        add(c.host, j, need, 1);
      }
      continue;
    }
    subtract(need, owned(j), missing);
    for (const Rows& m : missing)
      for (int i = 0; i < c.n; ++i) {
        const Rows rows = intersect(m, owned(i));
        const int parts =
            block < 0 ? std::min(c.program.scatter_parts, std::max(1, rows.count())) : 1;
        for (int k = 0; k < parts; ++k)
          add(i, j, {rows.lo + rows.count() * k / parts, rows.lo + rows.count() * (k + 1) / parts},
              k);
      }
  }
}

void LayoutBuilder::find_waits(Context& c) const {
  Layout& l = c.layout;
  const int pieces = static_cast<int>(l.pieces.size());
  l.waits.assign(at(l.tasks()), {});
  const auto wait_for = [&](int task, int participant, TensorRows r, bool messages) {
    const Tensor& t = graph_.tensors[at(r.tensor)];
    const int block = t.producer < 0 ? -1 : c.block_of_unit[at(graph_.ops[at(t.producer)].unit)];
    if (block >= 0)
      for (int p : c.made[at(block) * at(c.n) + at(participant)])
        if (overlap(l.pieces[at(p)].wanted, r)) l.waits[at(task)].push_back(p);
    if (!messages) return;
    for (int m : c.inbox[at(block + 1) * at(c.n) + at(participant)])
      if (overlap(l.messages[at(m)].parts, r)) l.waits[at(task)].push_back(pieces + m);
  };
  for (int p = 0; p < pieces; ++p)
    for (const auto& in : l.pieces[at(p)].inputs)
      wait_for(p, l.pieces[at(p)].participant, in, true);
  for (int m = 0; m < static_cast<int>(l.messages.size()); ++m) {
    const Message& message = l.messages[at(m)];
    const bool forwards = message.block >= 0 && message.from == c.host && message.part == 1 &&
                          c.program.blocks[at(message.block)].via_host;
    for (const auto& part : message.parts) wait_for(pieces + m, message.from, part, forwards);
  }
  for (auto& w : l.waits) {
    std::sort(w.begin(), w.end());
    w.erase(std::unique(w.begin(), w.end()), w.end());
  }
}

Layout LayoutBuilder::build(const Program& program) {
  const std::size_t tensors = graph_.tensors.size();
  Context c{program, program.size(), program.host_index(cluster_), {}, {}, {}, {}, {}, {}};
  const auto n = at(c.n);
  c.block_of_unit.resize(graph_.units.size());
  for (int b = 0; b < static_cast<int>(program.blocks.size()); ++b)
    for (int u = program.blocks[at(b)].first_unit; u < program.blocks[at(b)].end_unit; ++u)
      c.block_of_unit[at(u)] = b;
  c.later.assign(n * tensors, {});
  c.made.assign(program.blocks.size() * n, {});
  c.inbox.assign((program.blocks.size() + 1) * n, {});
  c.activations.assign(n, 0);
  c.layout.memory_bytes.assign(n, 0);
  find_slots(c);
  for (int t : graph_.outputs) c.need(c.host, t, tensors) = {0, graph_.tensors[at(t)].rows};
  for (int b = static_cast<int>(program.blocks.size()) - 1; b >= 0; --b) cut_block(c, b);
  for (int t = 0; t < static_cast<int>(tensors); ++t) send_tensor(c, t);
  find_waits(c);
  for (std::size_t i = 0; i < n; ++i) c.layout.memory_bytes[i] += c.activations[i];
  return std::move(c.layout);
}

}  // namespace outboard::split
