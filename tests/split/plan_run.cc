// SPDX-License-Identifier: Apache-2.0
#include "tests/split/plan_run.h"

#include <cmath>
#include <deque>
#include <stdexcept>

#include "split/graph/emit.h"

namespace outboard::split::testing {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// Copies rows between values of a tensor that hold the row ranges `have` and `want`.
template <typename T>
void copy_rows(const Tensor& t, const std::vector<T>& from, Rows have, std::vector<T>& to,
               Rows want, Rows rows) {
  std::int64_t lead = t.outer, tail = t.extent;
  for (int i = 0; i < static_cast<int>(t.shape.size()); ++i) {
    if (i < t.axis) lead *= t.shape[at(i)];
    if (i > t.axis) tail *= t.shape[at(i)];
  }
  if (from.empty()) return;
  for (std::int64_t i = 0; i < lead; ++i)
    std::copy_n(from.begin() + (i * have.count() + rows.lo - have.lo) * tail, rows.count() * tail,
                to.begin() + (i * want.count() + rows.lo - want.lo) * tail);
}

// What one participant has of a tensor.
struct Held {
  Value value;
  std::vector<char> known;  // by row
};

class Run {
 public:
  Run(const Graph& graph, const Cluster& cluster, const Program& program)
      : graph_(graph),
        program_(program),
        layout_(LayoutBuilder(graph, cluster).build(program)),
        host_(program.host_index(cluster)),
        held_(at(program.size())) {}

  Values run(const Values& inputs) {
    for (int t : graph_.inputs)
      put(host_, {t, {0, graph_.tensors[at(t)].rows}}, inputs.at(graph_.tensors[at(t)].name));
    std::deque<int> todo;
    std::vector<char> done(at(layout_.tasks()), 0);
    for (int i = 0; i < layout_.tasks(); ++i) todo.push_back(i);
    // Tasks in any order that their waits allow; a full round without progress is a deadlock.
    for (std::size_t idle = 0; !todo.empty();) {
      const int task = todo.front();
      todo.pop_front();
      bool ready = true;
      for (int w : layout_.waits[at(task)]) ready &= done[at(w)] != 0;
      if (!ready) {
        if (++idle > todo.size()) throw std::runtime_error("the layout waits for itself");
        todo.push_back(task);
        continue;
      }
      idle = 0;
      execute(task);
      done[at(task)] = 1;
    }
    Values out;
    for (int t : graph_.outputs)
      out[graph_.tensors[at(t)].name] = get(host_, {t, {0, graph_.tensors[at(t)].rows}});
    return out;
  }

 private:
  int rows_of(int tensor) const {
    for (const auto& s : layout_.slots)
      if (s.tensor == tensor) return static_cast<int>(s.slot_rows.size());
    return graph_.tensors[at(tensor)].rows;
  }

  void put(int participant, TensorRows r, const Value& value) {
    const Tensor& t = graph_.tensors[at(r.tensor)];
    Held& h = held_[at(participant)][r.tensor];
    const Rows all{0, rows_of(r.tensor)};
    if (h.known.empty()) {
      h.known.assign(at(all.count()), 0);
      h.value.shape = t.band(all);
      const auto n = static_cast<std::size_t>(element_total(h.value.shape));
      if (value.ints.empty())
        h.value.floats.assign(n, std::nanf(""));
      else
        h.value.ints.assign(n, -1);
    }
    copy_rows(t, value.floats, r.rows, h.value.floats, all, r.rows);
    copy_rows(t, value.ints, r.rows, h.value.ints, all, r.rows);
    for (int i = r.rows.lo; i < r.rows.hi; ++i) h.known[at(i)] = 1;
  }

  Value get(int participant, TensorRows r) {
    const Tensor& t = graph_.tensors[at(r.tensor)];
    const auto it = held_[at(participant)].find(r.tensor);
    for (int i = r.rows.lo; i < r.rows.hi; ++i)
      if (it == held_[at(participant)].end() || !it->second.known[at(i)])
        throw std::runtime_error("participant " + std::to_string(participant) + " lacks row " +
                                 std::to_string(i) + " of " + t.name);
    return take_rows(t, it->second.value, r.rows, rows_of(r.tensor));
  }

  void execute(int task) {
    const int pieces = static_cast<int>(layout_.pieces.size());
    if (task >= pieces) {
      const Message& m = layout_.messages[at(task - pieces)];
      for (const auto& part : m.parts) put(m.to, part, get(m.from, part));
      return;
    }
    const Piece& p = layout_.pieces[at(task)];
    const Block& b = program_.blocks[at(p.block)];
    const auto model = emit_band(graph_, b.first_unit, b.end_unit, p.wanted, layout_.slots);
    if (!model) throw std::runtime_error(model.error().message);
    Values in;
    for (const auto& port : model->inputs) in[port.name] = get(p.participant, port.rows);
    const Values out = run_model(model->bytes, in);
    for (const auto& port : model->outputs) put(p.participant, port.rows, out.at(port.name));
  }

  static std::int64_t element_total(const Shape& shape) {
    std::int64_t n = 1;
    for (auto d : shape) n *= d;
    return n;
  }

  const Graph& graph_;
  const Program& program_;
  const Layout layout_;
  const int host_;
  std::vector<std::map<int, Held>> held_;
};

}  // namespace

Value take_rows(const Tensor& t, const Value& whole, Rows rows, int all_rows) {
  if (t.kind == TensorKind::kWhole) return whole;
  Value out;
  out.shape = t.band(rows);
  std::int64_t n = 1;
  for (auto d : out.shape) n *= d;
  if (whole.ints.empty())
    out.floats.resize(static_cast<std::size_t>(n));
  else
    out.ints.resize(static_cast<std::size_t>(n));
  copy_rows(t, whole.floats, {0, all_rows}, out.floats, rows, rows);
  copy_rows(t, whole.ints, {0, all_rows}, out.ints, rows, rows);
  return out;
}

Values run_program(const Graph& graph, const Cluster& cluster, const Program& program,
                   const Values& inputs) {
  return Run(graph, cluster, program).run(inputs);
}

}  // namespace outboard::split::testing
