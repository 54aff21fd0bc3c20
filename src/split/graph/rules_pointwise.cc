// SPDX-License-Identifier: Apache-2.0
// Element-wise operators with broadcasting, and those that mix only channels: output rows [a, b)
// need input rows [a, b). Softmax and layer normalisation are among them where they leave the rows
// alone.
#include <onnx/onnx_pb.h>

#include "split/graph/attributes.h"
#include "split/graph/rules.h"

namespace outboard::split {
namespace {

Shape broadcast(const std::vector<Operand>& in) {
  std::size_t rank = 0;
  for (const auto& o : in)
    if (o.present) rank = std::max(rank, o.shape.size());
  Shape out(rank, 1);
  for (const auto& o : in)
    for (std::size_t i = 0; o.present && i < o.shape.size(); ++i) {
      auto& d = out[rank - o.shape.size() + i];
      if (o.shape[i] != 1) d = o.shape[i];
    }
  return out;
}

// Any number of inputs that broadcast; the one with most bytes says where the rows are.
Rule elementwise(const Site& site) {
  Rule rule;
  const Shape out = broadcast(site.in);
  rule.shapes = {out};
  rule.flops = static_cast<double>(element_count(out));
  rule.pointwise = true;
  const int rank = static_cast<int>(out.size());
  const Operand* leader = nullptr;
  for (const auto& o : site.in)
    if (o.has_rows() && (!leader || o.bytes() > leader->bytes())) leader = &o;
  if (!leader) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  const Tensor& t = *leader->tensor;
  rule.axis = t.axis + rank - leader->rank();
  rule.outer = t.outer;
  rule.extent = t.extent;
  // Rows that another input spreads over more than the leader has cannot be.
  if (out[static_cast<std::size_t>(rule.axis)] != leader->shape[static_cast<std::size_t>(t.axis)])
    return host_rule("it broadcasts along the rows");
  for (const auto& o : site.in) {
    RowMap map;
    if (o.has_rows()) {
      const Tensor& u = *o.tensor;
      const bool aligned = u.axis + rank - o.rank() == rule.axis && u.outer == t.outer &&
                           u.extent == t.extent && u.rows == t.rows;
      if (!aligned) {
        const int at = rule.axis - (rank - o.rank());
        if (at >= 0 && o.shape[static_cast<std::size_t>(at)] != 1)
          return host_rule("its inputs are divided along different axes");
        map = RowMap::whole(u.rows);
      }
    } else if (o.tensor) {
      const int at = rule.axis - (rank - o.rank());
      // One that every node has is sliced like a constant.
      if (at >= 0 && o.shape[static_cast<std::size_t>(at)] != 1 &&
          (o.tensor->host_owned || t.outer != 1))
        return host_rule("one of its inputs has rows that only the host has");
    } else if (o.constant && t.outer != 1) {
      const int at = rule.axis - (rank - o.rank());
      if (at >= 0 && o.shape[static_cast<std::size_t>(at)] != 1)
        return host_rule("it has a constant for each element of a flattened image");
    }
    rule.maps.push_back(map);
  }
  return rule;
}

Rule comparison(const Site& site) {
  Rule rule = elementwise(site);
  rule.types = {onnx::TensorProto::BOOL};
  return rule;
}

Rule select(const Site& site) {
  Rule rule = elementwise(site);
  rule.types = {site.in[1].element_type};
  return rule;
}

// Only the first input has rows; the others are parameters (batch normalisation, clip, dropout
// ...).
Rule first_input(const Site& site) {
  const Operand& x = site.in[0];
  for (std::size_t i = 1; i < site.in.size(); ++i)
    if (site.in[i].present && !site.in[i].constant) return host_rule("its parameters are computed");
  Rule rule;
  rule.shapes.assign(1, x.shape);
  rule.pointwise = true;
  rule.flops = 2.0 * static_cast<double>(element_count(x.shape));
  for (int i = 1; i < site.node.output_size(); ++i)
    if (!site.node.output(i).empty()) return host_rule("it has more than one output");
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  rule.axis = x.tensor->axis;
  rule.outer = x.tensor->outer;
  rule.extent = x.tensor->extent;
  if (site.node.op_type() != "Clip" && site.node.op_type() != "Dropout" && rule.axis < 2 &&
      rule.outer * rule.extent != 1)
    return host_rule("its input is a flattened image");
  return rule;
}

Rule cast(const Site& site) {
  Rule rule = elementwise(site);
  rule.types = {static_cast<int>(attribute_int(site.node, "to", 1))};
  return rule;
}

Rule quantize(const Site& site) {
  for (std::size_t i = 1; i < site.in.size(); ++i)
    if (site.in[i].present && !site.in[i].constant) return host_rule("its scale is computed");
  Rule rule = first_input(site);
  const bool back = site.node.op_type() == "DequantizeLinear";
  rule.types = {back          ? static_cast<int>(onnx::TensorProto::FLOAT)
                : site.has(2) ? site.in[2].element_type
                              : static_cast<int>(onnx::TensorProto::UINT8)};
  return rule;
}

// Softmax along one axis (before opset 13: along all axes from `axis` on).
Rule softmax(const Site& site) {
  const Operand& x = site.in[0];
  Rule rule;
  rule.shapes = {x.shape};
  rule.flops = 5.0 * static_cast<double>(element_count(x.shape));
  std::int64_t axis = attribute_int(site.node, "axis", site.opset < 13 ? 1 : -1);
  if (axis < 0) axis += x.rank();
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  const Tensor& t = *x.tensor;
  const bool touches = site.opset < 13 ? t.axis >= axis : t.axis == axis;
  if (touches) {
    rule.kind = OpKind::kReplicated;
    rule.maps = {RowMap::whole(t.rows)};
    return rule;
  }
  rule.axis = t.axis;
  rule.outer = t.outer;
  rule.extent = t.extent;
  return rule;
}

}  // namespace

const std::map<std::string, RuleFunction>& pointwise_rules() {
  static const std::map<std::string, RuleFunction> table = [] {
    std::map<std::string, RuleFunction> t;
    for (const char* op : {"Relu",
                           "LeakyRelu",
                           "PRelu",
                           "Sigmoid",
                           "Tanh",
                           "HardSigmoid",
                           "HardSwish",
                           "Elu",
                           "Selu",
                           "Celu",
                           "Softplus",
                           "Softsign",
                           "ThresholdedRelu",
                           "Mish",
                           "Gelu",
                           "Erf",
                           "Exp",
                           "Log",
                           "Sqrt",
                           "Abs",
                           "Neg",
                           "Reciprocal",
                           "Floor",
                           "Ceil",
                           "Round",
                           "Sign",
                           "Sin",
                           "Cos",
                           "Pow",
                           "Add",
                           "Sub",
                           "Mul",
                           "Div",
                           "Min",
                           "Max",
                           "Sum",
                           "Mean",
                           "Identity",
                           "And",
                           "Or",
                           "Not"})
      t[op] = elementwise;
    for (const char* op : {"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"})
      t[op] = comparison;
    for (const char* op : {"BatchNormalization", "Clip", "Dropout", "LRN"}) t[op] = first_input;
    t["Where"] = select;
    t["Cast"] = cast;
    t["QuantizeLinear"] = quantize;
    t["DequantizeLinear"] = quantize;
    t["Softmax"] = softmax;
    t["LogSoftmax"] = softmax;
    return t;
  }();
  return table;
}

}  // namespace outboard::split
