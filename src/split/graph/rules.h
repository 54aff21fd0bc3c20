// SPDX-License-Identifier: Apache-2.0
// The row rules: what each ONNX operator says about its output shape and about which input rows an
// output row needs. One function an operator class, in a table by operator name. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "split/graph/constants.h"
#include "split/graph/graph.h"

namespace outboard::split {

// One input of a node.
struct Operand {
  bool present = false;
  const Tensor* tensor = nullptr;     // an activation
  const ConstValue* value = nullptr;  // a small constant
  bool constant = false;              // small or large
  Shape shape;
  int element_type = 0;

  bool has_rows() const { return tensor && tensor->kind == TensorKind::kRows; }
  int rank() const { return static_cast<int>(shape.size()); }
  double bytes() const;
};

struct Site {
  const onnx::NodeProto& node;
  std::vector<Operand> in;
  std::int64_t opset = 0;

  bool has(std::size_t i) const { return i < in.size() && in[i].present; }
  const ConstValue* value(std::size_t i) const { return has(i) ? in[i].value : nullptr; }
};

// How a node that mixes rows is divided.
enum class Division : std::uint8_t {
  kNone,       // by rows (or not at all)
  kReduce,     // partial results, combined by every node that needs the result
  kNormalise,  // partial statistics, then by rows
};

struct Rule {
  OpKind kind = OpKind::kRows;
  Division division = Division::kNone;
  std::vector<Shape> shapes;  // of the outputs
  std::vector<int> types;     // element types; empty: that of the first input
  int axis = -1;              // of every output; -1: no rows
  int outer = 1;
  int extent = 1;
  std::vector<RowMap> maps;  // for each input; missing ones are the identity
  Window window;
  Shape slot;  // shape of a partial result
  double flops = 0;
  double weight_bytes = 0;
  bool weights_by_row = false;
  bool pointwise = false;  // can run inside the kernel of the operator before it
  bool own_unit = false;
  std::string reason;  // why it must run on the host
};

// Returns a rule of kind kHost with a reason for an operator that has no row rule here.
Rule rule_of(const Site& site);

// A node that runs on the host because of `reason`.
Rule host_rule(std::string reason);

// Rewrites auto_pad to explicit pads where the node has it; input is the spatial input's shape.
void make_pads_explicit(onnx::NodeProto& node, const Shape& input, const Shape& weight);

// Tables of the operator classes (rules_*.cc), merged by rule_of.
using RuleFunction = Rule (*)(const Site&);
const std::map<std::string, RuleFunction>& spatial_rules();
const std::map<std::string, RuleFunction>& pointwise_rules();
const std::map<std::string, RuleFunction>& layout_rules();
const std::map<std::string, RuleFunction>& reduction_rules();

}  // namespace outboard::split
