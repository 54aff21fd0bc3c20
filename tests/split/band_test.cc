// SPDX-License-Identifier: Apache-2.0
// The bands of a random network under random cuts, put together, equal the whole: both run in ONNX
// Runtime. Every band gets its input rows from the whole run, so a difference names one operator.
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstring>

#include "split/graph/emit.h"
#include "tests/split/random_model.h"

namespace outboard::split {
namespace {

using testing::Value;
using testing::Values;

// Rows of a tensor's value, in the layout that Tensor documents.
Value take_rows(const Tensor& t, const Value& whole, Rows rows) {
  Value out;
  out.shape = t.band(rows);
  if (t.kind == TensorKind::kWhole) return whole;
  std::int64_t lead = t.outer, tail = t.extent;
  for (int i = 0; i < static_cast<int>(t.shape.size()); ++i) {
    if (i < t.axis) lead *= t.shape[static_cast<std::size_t>(i)];
    if (i > t.axis) tail *= t.shape[static_cast<std::size_t>(i)];
  }
  const std::int64_t all = t.kind == TensorKind::kSlots ? whole.shape[0] : t.rows;
  for (std::int64_t i = 0; i < lead; ++i)
    for (std::int64_t j = (i * all + rows.lo) * tail; j < (i * all + rows.hi) * tail; ++j) {
      if (whole.ints.empty())
        out.floats.push_back(whole.floats[static_cast<std::size_t>(j)]);
      else
        out.ints.push_back(whole.ints[static_cast<std::size_t>(j)]);
    }
  return out;
}

void expect_close(const Value& got, const Value& want, const std::string& where) {
  RC_ASSERT(got.shape == want.shape);
  RC_ASSERT(got.floats.size() == want.floats.size());
  RC_ASSERT(got.ints == want.ints);
  for (std::size_t i = 0; i < want.floats.size(); ++i) {
    const double difference = std::abs(double{got.floats[i]} - want.floats[i]);
    if (!(difference <= 2e-4 * std::max(1.0, std::abs(double{want.floats[i]}))))
      RC_FAIL(where + ": element " + std::to_string(i) + " is " + std::to_string(got.floats[i]) +
              ", expected " + std::to_string(want.floats[i]));
  }
}

// One model with every intermediate tensor among its outputs.
std::string with_all_outputs(const std::string& bytes, const Graph& g) {
  onnx::ModelProto model;
  model.ParseFromString(bytes);
  model.mutable_graph()->clear_output();
  for (const auto& t : g.tensors) {
    if (t.producer < 0 || t.kind == TensorKind::kSlots) continue;
    auto& out = *model.mutable_graph()->add_output();
    out.set_name(t.name);
    out.mutable_type()->mutable_tensor_type()->set_elem_type(t.element_type);
  }
  return model.SerializeAsString();
}

class Cutter {
 public:
  Cutter(const Graph& g, std::uint64_t seed) : g_(g), random_(seed), nodes_(pick(1, 4)) {}

  // Runs every band of every block and compares; returns the number of bands.
  int check(Values all) {
    int bands = 0;
    for (int first = 0; first < units();) {
      int end = first + 1;
      while (end < units() && !g_.units[static_cast<std::size_t>(end)].hard_border &&
             pick(0, 2) != 0)
        ++end;
      bands += check_block(first, end, all);
      first = end;
    }
    return bands;
  }

 private:
  int pick(int lo, int hi) {
    return lo + static_cast<int>(random_() % static_cast<std::uint64_t>(hi - lo + 1));
  }
  int units() const { return static_cast<int>(g_.units.size()); }

  Rows cut(int rows, int node) {
    auto& c = cuts_[rows];
    if (c.empty()) {
      for (int i = 0; i <= nodes_; ++i)
        c.push_back(i == 0 ? 0 : i == nodes_ ? rows : pick(0, rows));
      std::sort(c.begin(), c.end());
    }
    return {c[static_cast<std::size_t>(node)], c[static_cast<std::size_t>(node) + 1]};
  }

  // The slots of the divided reductions that touch this block.
  std::vector<SlotRows> slots() {
    std::vector<SlotRows> out;
    for (const auto& op : g_.ops) {
      if (op.kind != OpKind::kPartial) continue;
      SlotRows s{op.outputs[0], {}};
      for (int n = 0; n < nodes_; ++n)
        if (const Rows r = cut(g_.tensors[static_cast<std::size_t>(op.inputs[0].tensor)].rows, n);
            !r.empty())
          s.slot_rows.push_back(r);
      out.push_back(s);
    }
    return out;
  }

  int check_block(int first, int end, Values& all) {
    const int first_op = g_.units[static_cast<std::size_t>(first)].first_op;
    const int end_op = g_.units[static_cast<std::size_t>(end) - 1].end_op;
    const auto all_slots = slots();
    std::map<std::string, std::map<int, Value>> partial;
    int bands = 0;
    for (int node = 0; node < nodes_; ++node) {
      std::vector<TensorRows> wanted;
      for (int i = first_op; i < end_op; ++i)
        for (int t : g_.ops[static_cast<std::size_t>(i)].outputs) {
          const Tensor& tensor = g_.tensors[static_cast<std::size_t>(t)];
          if (tensor.element_type != 1 && tensor.element_type != 7) continue;
          const bool leaves = tensor.is_output || pick(0, 3) == 0 ||
                              (!tensor.consumers.empty() && tensor.consumers.back() >= end_op);
          if (!leaves) continue;
          Rows rows{0, 1};
          if (tensor.kind == TensorKind::kRows) rows = cut(tensor.rows, node);
          if (tensor.kind == TensorKind::kSlots) {
            rows = {};
            for (const auto& s : all_slots)
              for (int k = 0; s.tensor == t && k < static_cast<int>(s.slot_rows.size()); ++k)
                if (s.slot_rows[static_cast<std::size_t>(k)] ==
                    cut(g_.tensors[static_cast<std::size_t>(
                                       g_.ops[static_cast<std::size_t>(i)].inputs[0].tensor)]
                            .rows,
                        node))
                  rows = {k, k + 1};
          }
          if (!rows.empty()) wanted.push_back({t, rows});
        }
      if (wanted.empty()) continue;
      const auto model = emit_band(g_, first, end, wanted, all_slots);
      RC_ASSERT(model.has_value());
      Values in;
      for (const auto& port : model->inputs) {
        const Tensor& t = g_.tensors[static_cast<std::size_t>(port.rows.tensor)];
        in[port.name] = take_rows(t, all.at(t.name), port.rows.rows);
      }
      const Values out = testing::run_model(model->bytes, in);
      ++bands;
      for (const auto& port : model->outputs) {
        const Tensor& t = g_.tensors[static_cast<std::size_t>(port.rows.tensor)];
        if (t.kind == TensorKind::kSlots)
          partial[t.name][port.rows.rows.lo] = out.at(port.name);
        else
          expect_close(out.at(port.name), take_rows(t, all.at(t.name), port.rows.rows), t.name);
      }
    }
    for (auto& [name, parts] : partial) {
      Value& whole = all[name];
      for (auto& [slot, v] : parts) {
        const auto count = whole.shape.empty() ? 0 : whole.shape[0];
        whole.shape = v.shape;
        whole.shape[0] = count + 1;
        whole.floats.insert(whole.floats.end(), v.floats.begin(), v.floats.end());
      }
    }
    return bands;
  }

  const Graph& g_;
  std::mt19937_64 random_;
  int nodes_;
  std::map<int, std::vector<int>> cuts_;
};

int check_model(const testing::RandomModel& model, std::uint64_t seed, int cuts) {
  auto file = OnnxFile::parse(std::as_bytes(std::span(model.bytes)), ".");
  RC_ASSERT(file.has_value());
  auto graph = build_graph(*file);
  if (!graph.has_value()) RC_FAIL(graph.error().message);
  for (const auto& op : graph->ops)
    if (op.kind == OpKind::kHost) RC_FAIL(op.name + " runs on the host: " + op.reason);
  Values all = testing::run_model(with_all_outputs(model.bytes, *graph), model.inputs);
  for (const auto& t : graph->tensors)
    if (const auto it = all.find(t.name); it != all.end() && t.producer >= 0)
      RC_ASSERT(it->second.shape == t.shape);
  all.insert(model.inputs.begin(), model.inputs.end());
  int bands = 0;
  for (int i = 0; i < cuts; ++i)
    bands += Cutter(*graph, seed * 31 + static_cast<std::uint64_t>(i)).check(all);
  return bands;
}

#define SKIP_WITHOUT_RUNTIME()       \
  if (!testing::runtime_available()) \
  GTEST_SKIP() << "NO ONNX RUNTIME IN build/deps: bands are not checked"

RC_GTEST_PROP(Bands, ImageNetworksEqualTheWhole, (std::uint64_t seed)) {
  if (!testing::runtime_available()) return;
  check_model(testing::random_image_model(seed), seed, 3);
}

RC_GTEST_PROP(Bands, TokenNetworksEqualTheWhole, (std::uint64_t seed)) {
  if (!testing::runtime_available()) return;
  if (seed % 4 == 0) check_model(testing::random_token_model(seed), seed, 3);  // they are slow
}

TEST(Bands, NeedTheRuntime) { SKIP_WITHOUT_RUNTIME(); }

}  // namespace
}  // namespace outboard::split
