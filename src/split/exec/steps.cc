// SPDX-License-Identifier: Apache-2.0
#include "split/exec/steps.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

#include "base/limits.h"
#include "split/exec/blocked.h"
#include "split/exec/place.h"
#include "split/graph/constants.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

class Compiler {
 public:
  Compiler(const Graph& graph, const Program& program, const Layout& layout, int host, int me,
           int block_channels)
      : graph_(graph),
        program_(program),
        layout_(layout),
        block_channels_(block_channels),
        blocked_(in_blocks(graph, block_channels)) {
    out_.participant = me;
    out_.is_host = me == host;
    out_.step_of_message.assign(layout.messages.size(), -1);
    step_of_task_.assign(at(layout.tasks()), -1);
  }

  Result<Steps> run() {
    add_steps();
    add_edges();
    if (out_.is_host) add_ends();
    OB_CHECK_OK(add_copies());
    if (sizeless_ >= 0)
      return error(ErrorKind::kInvalid, "the size of the tensor ({}) is unknown or beyond {} bytes",
                   graph_.tensors[at(sizeless_)].name, limits::kTensorBytes);
    place_buffers(out_, layout_);
    return std::move(out_);
  }

 private:
  int rows_of(int tensor) const {
    for (const auto& s : layout_.slots)
      if (s.tensor == tensor) return static_cast<int>(s.slot_rows.size());
    return graph_.tensors[at(tensor)].rows;
  }

  int buffer(TensorRows r) {
    const auto [it, added] =
        known_.try_emplace({r.tensor, r.rows.lo, r.rows.hi}, static_cast<int>(out_.buffers.size()));
    if (added) add_buffer(r);
    return it->second;
  }

  int add_buffer(TensorRows r) {
    const Tensor& t = graph_.tensors[at(r.tensor)];
    Buffer b{r.tensor, r.rows, t.band(r.rows), 1, 0, 0, 0};
    // Memory is reserved and rows are received by it: it must be a size, and no sum may overflow.
    std::int64_t total = element_count(b.shape) * element_size_bytes(t.element_type);
    if (std::any_of(b.shape.begin(), b.shape.end(), [](auto d) { return d < 0; }) ||
        total > static_cast<std::int64_t>(limits::kTensorBytes)) {
      sizeless_ = r.tensor;
      total = 0;
    }
    if (t.kind == TensorKind::kRows && total > 0) {
      b.lead = t.outer;
      for (int i = 0; i < t.axis; ++i) b.lead *= t.shape[at(i)];
      if (block_channels_ > 0 && blocked_[at(r.tensor)]) b.lead /= block_channels_;
    }
    b.size_bytes = static_cast<std::uint64_t>(total);
    b.tail_bytes = r.rows.empty() || total == 0 ? 0 : total / b.lead / r.rows.count();
    out_.buffers.push_back(std::move(b));
    return static_cast<int>(out_.buffers.size()) - 1;
  }

  void add_steps() {
    const int pieces = static_cast<int>(layout_.pieces.size());
    for (int i = 0; i < pieces; ++i) {
      const Piece& p = layout_.pieces[at(i)];
      if (p.participant != out_.participant) continue;
      Step s{StepKind::kCompute,
             i,
             i,
             -1,
             std::int64_t{p.block + 1} * 64 + p.order,
             {},
             {},
             {},
             {},
             0,
             0};
      if (program_.boundary_first && !p.boundary) s.key += std::int64_t{1} << 24;
      for (const auto& in : p.inputs) s.inputs.push_back(buffer(in));
      for (const auto& w : p.wanted) s.outputs.push_back(source(w));
      push(std::move(s));
    }
    for (int i = 0; i < static_cast<int>(layout_.messages.size()); ++i) {
      const Message& m = layout_.messages[at(i)];
      if (m.from != out_.participant && m.to != out_.participant) continue;
      const bool sends = m.from == out_.participant;
      Step s{sends ? StepKind::kSend : StepKind::kReceive,
             pieces + i,
             i,
             sends ? m.to : m.from,
             std::int64_t{m.block + 1} * 64 + m.part,
             {},
             {},
             {},
             {},
             0,
             0};
      for (const auto& part : m.parts) {
        const int b = sends ? buffer(part) : received(part);
        (sends ? s.inputs : s.outputs).push_back(b);
        s.payload_bytes += out_.buffers[at(b)].size_bytes;
      }
      out_.step_of_message[at(i)] = static_cast<int>(out_.steps.size());
      push(std::move(s));
    }
  }

  void push(Step step) {
    step_of_task_[at(step.task)] = static_cast<int>(out_.steps.size());
    out_.steps.push_back(std::move(step));
  }

  // A buffer that a step writes as a whole.
  int source(TensorRows r) {
    const int b = buffer(r);
    if (std::find(sources_.begin(), sources_.end(), b) == sources_.end()) sources_.push_back(b);
    return b;
  }

  // Where everything goes through the host, rows come back to the node that made them. They are
  // the same, and must not be written twice: such a part has a buffer of its own.
  int received(TensorRows r) {
    for (int b : sources_)
      if (out_.buffers[at(b)].tensor == r.tensor &&
          !intersect(out_.buffers[at(b)].rows, r.rows).empty()) {
        sources_.push_back(add_buffer(r));
        return sources_.back();
      }
    return source(r);
  }

  void add_edges() {
    for (int i = 0; i < static_cast<int>(out_.steps.size()); ++i) {
      Step& s = out_.steps[at(i)];
      if (s.kind == StepKind::kReceive) continue;  // waits for its sender
      for (int w : layout_.waits[at(s.task)]) {
        const int before = step_of_task_[at(w)];
        if (before < 0) continue;
        out_.steps[at(before)].next.push_back(i);
        ++s.waits;
      }
    }
  }

  void add_ends() {
    for (int t : graph_.inputs) {
      out_.model_inputs.push_back(source({t, {0, graph_.tensors[at(t)].rows}}));
    }
    for (int t : graph_.outputs) out_.model_outputs.push_back(buffer({t, {0, rows_of(t)}}));
  }

  Result<void> add_copies() {
    std::vector<char> is_source(out_.buffers.size(), 0);
    for (int b : sources_) is_source[at(b)] = 1;
    const auto copies_of = [&](int b) -> std::vector<Copy>& {
      for (auto& s : out_.steps)
        if (std::find(s.outputs.begin(), s.outputs.end(), b) != s.outputs.end()) return s.copies;
      return out_.input_copies;
    };
    for (int b = 0; b < static_cast<int>(out_.buffers.size()); ++b) {
      if (is_source[at(b)]) continue;
      const Buffer& to = out_.buffers[at(b)];
      std::vector<char> known(at(to.rows.count()), 0);
      for (int from : sources_) {
        const Buffer& f = out_.buffers[at(from)];
        if (f.tensor != to.tensor) continue;
        // Only rows that no earlier source gives.
        const Rows rows = intersect(f.rows, to.rows);
        for (int lo = rows.lo; lo < rows.hi;) {
          int hi = lo;
          while (hi < rows.hi && !known[at(hi - to.rows.lo)]) known[at(hi++ - to.rows.lo)] = 1;
          if (hi > lo) copies_of(from).push_back({from, b, {lo, hi}});
          lo = hi + 1;
        }
      }
      for (int r = 0; r < to.rows.count(); ++r)
        if (!known[at(r)])
          return error(ErrorKind::kInternal,
                       "the layout gives participant ({}) no row ({}) of the tensor ({})",
                       out_.participant, to.rows.lo + r, graph_.tensors[at(to.tensor)].name);
    }
    return {};
  }

  const Graph& graph_;
  const Program& program_;
  const Layout& layout_;
  const int block_channels_;
  const std::vector<char> blocked_;
  Steps out_;
  std::map<std::tuple<int, int, int>, int> known_;
  std::vector<int> sources_;
  int sizeless_ = -1;  // a tensor whose size is none that memory can be reserved by
  std::vector<int> step_of_task_;
};

}  // namespace

Result<Steps> compile(const Graph& graph, const Program& program, const Layout& layout, int host,
                      int participant, int block_channels) {
  return Compiler(graph, program, layout, host, participant, block_channels).run();
}

void copy_rows(const Buffer& from, const std::byte* source, const Buffer& to, std::byte* target,
               Rows rows) {
  const std::int64_t from_strip = from.rows.count() * from.tail_bytes;
  const std::int64_t to_strip = to.rows.count() * to.tail_bytes;
  source += (rows.lo - from.rows.lo) * from.tail_bytes;
  target += (rows.lo - to.rows.lo) * to.tail_bytes;
  const auto bytes = static_cast<std::size_t>(rows.count() * from.tail_bytes);
  for (std::int64_t i = 0; i < from.lead; ++i)
    std::memcpy(target + i * to_strip, source + i * from_strip, bytes);
}

Layout layout_of(const Graph& graph, const Program& program, int host) {
  Cluster cluster;
  cluster.nodes.resize(at(program.size()));
  for (auto& node : cluster.nodes) node.flops_per_s = 1;
  cluster.links.resize(cluster.nodes.size() * cluster.nodes.size(), {0, 1});
  cluster.host = host;
  return LayoutBuilder(graph, cluster).build(program);
}

}  // namespace outboard::split::exec
