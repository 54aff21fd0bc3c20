// SPDX-License-Identifier: Apache-2.0
// Operators that mix rows, and how they are divided all the same: global pooling and reductions by
// partial sums; normalisation over the image by partial means and squared deviations, combined by
// Chan, Golub and LeVeque's formula; a fully connected layer by parts of its K dimension where its
// input has rows there, else by output columns; MatMul of attention by rows of its left side.
#include <onnx/onnx_pb.h>

#include "split/graph/attributes.h"
#include "split/graph/rules.h"

namespace outboard::split {
namespace {

// Smaller weights are not worth a division by columns: every node multiplies by all of them.
constexpr double kDivisibleWeights_bytes = 256.0 * 1024;

Rule reduce(const Site& site, const std::vector<std::int64_t>& axes, bool keep) {
  const Operand& x = site.in[0];
  std::vector<bool> gone(x.shape.size(), axes.empty());
  for (auto a : axes) {
    a = a < 0 ? a + x.rank() : a;
    if (a < 0 || a >= x.rank()) return host_rule("its axes are wrong");
    gone[static_cast<std::size_t>(a)] = true;
  }
  Rule rule;
  Shape out;
  int axis = -1;
  for (std::size_t i = 0; i < x.shape.size(); ++i) {
    if (x.has_rows() && x.tensor->axis == static_cast<int>(i)) axis = static_cast<int>(out.size());
    if (!gone[i] || keep) out.push_back(gone[i] ? 1 : x.shape[i]);
  }
  rule.shapes = {out};
  rule.flops = static_cast<double>(element_count(x.shape));
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  const Tensor& t = *x.tensor;
  if (!gone[static_cast<std::size_t>(t.axis)]) {
    rule.axis = axis;
    rule.outer = t.outer;
    rule.extent = t.extent;
    return rule;
  }
  if (t.outer != 1) return host_rule("it reduces a flattened image");
  if (x.element_type != onnx::TensorProto::FLOAT)
    return host_rule("its partial sums are not float");
  rule.division = Division::kReduce;
  rule.slot = out;
  rule.slot.insert(rule.slot.begin(), 1);
  return rule;
}

Rule reduce_operator(const Site& site) {
  auto axes = attribute_ints(site.node, "axes");
  if (axes.empty() && site.has(1)) {
    if (!site.value(1)) return host_rule("its axes are computed");
    axes = site.value(1)->as_ints();
  }
  return reduce(site, axes, attribute_int(site.node, "keepdims", 1) != 0);
}

Rule global_pool(const Site& site) {
  std::vector<std::int64_t> axes;
  for (int i = 2; i < site.in[0].rank(); ++i) axes.push_back(i);
  return reduce(site, axes, true);
}

// Statistics over everything behind the first `lead` numbers of x: [lead, rest].
Rule normalise(const Site& site, std::int64_t lead) {
  const Operand& x = site.in[0];
  Rule rule;
  rule.shapes = {x.shape};
  rule.flops = 6.0 * static_cast<double>(element_count(x.shape));
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  if (x.tensor->outer != 1 || x.tensor->extent != 1) return host_rule("its input is flattened");
  if (x.element_type != onnx::TensorProto::FLOAT)
    return host_rule("its partial sums are not float");
  for (std::size_t i = 1; i < site.in.size(); ++i)
    if (site.in[i].present && !site.in[i].constant) return host_rule("its parameters are computed");
  rule.axis = x.tensor->axis;
  rule.division = Division::kNormalise;
  rule.slot = {1, 2, lead};
  return rule;
}

Rule instance_norm(const Site& site) {
  return normalise(site, site.in[0].shape[0] * site.in[0].shape[1]);
}

Rule group_norm(const Site& site) {
  return normalise(site, site.in[0].shape[0] * attribute_int(site.node, "num_groups", 1));
}

Rule layer_norm(const Site& site) {
  const Operand& x = site.in[0];
  std::int64_t axis = attribute_int(site.node, "axis", -1);
  if (axis < 0) axis += x.rank();
  for (int i = 1; i < site.node.output_size(); ++i)
    if (!site.node.output(i).empty()) return host_rule("it returns its statistics");
  if (x.has_rows() && x.tensor->axis < axis) {
    Rule rule;
    rule.shapes = {x.shape};
    rule.flops = 8.0 * static_cast<double>(element_count(x.shape));
    rule.axis = x.tensor->axis;
    rule.outer = x.tensor->outer;
    rule.extent = x.tensor->extent;
    return rule;
  }
  std::int64_t lead = 1;
  for (std::int64_t i = 0; i < axis; ++i) lead *= x.shape[static_cast<std::size_t>(i)];
  return normalise(site, lead);
}

// x [.., K] times constant weights [K, M].
Rule linear(const Site& site, std::int64_t columns) {
  const Operand& x = site.in[0];
  Rule rule;
  Shape out = x.shape;
  out.back() = columns;
  rule.shapes = {out};
  rule.flops = 2.0 * static_cast<double>(element_count(x.shape)) * static_cast<double>(columns);
  rule.weight_bytes = site.in[1].bytes();
  if (x.has_rows() && x.tensor->axis == x.rank() - 1) {  // K holds the rows
    if (x.element_type != onnx::TensorProto::FLOAT)
      return host_rule("its partial sums are not float");
    rule.division = Division::kReduce;
    rule.weights_by_row = true;
    rule.own_unit = true;
    rule.slot = out;
    rule.slot.insert(rule.slot.begin(), 1);
  } else if (x.has_rows()) {
    if (x.tensor->outer != 1) return host_rule("its input is a flattened image");
    rule.axis = x.tensor->axis;
    rule.extent = x.tensor->extent;
  } else if (rule.weight_bytes >= kDivisibleWeights_bytes) {
    rule.axis = static_cast<int>(out.size()) - 1;
    rule.weights_by_row = true;
    rule.own_unit = true;
  } else {
    rule.kind = OpKind::kReplicated;
  }
  return rule;
}

Rule gemm(const Site& site) {
  const bool trans_a = attribute_int(site.node, "transA", 0) != 0;
  const bool trans_b = attribute_int(site.node, "transB", 0) != 0;
  if (trans_a || !site.has(1) || !site.in[1].constant || site.in[1].rank() != 2 ||
      site.in[0].rank() != 2)
    return host_rule("its weights are computed or its input is transposed");
  if (site.has(2) && !site.in[2].constant) return host_rule("its bias is computed");
  return linear(site, site.in[1].shape[trans_b ? 0 : 1]);
}

Rule matmul(const Site& site) {
  const Operand &a = site.in[0], &b = site.in[1];
  if (a.rank() < 2 || b.rank() < 2) return host_rule("one of its inputs is a vector");
  if (b.constant && b.rank() == 2) return linear(site, b.shape[1]);
  if (a.constant) return host_rule("its left side is constant");
  Rule rule;
  const std::size_t rank = std::max(a.shape.size(), b.shape.size());
  Shape out(rank, 1);
  for (const Operand* o : {&a, &b})
    for (std::size_t i = 0; i + 2 < o->shape.size(); ++i) {
      auto& d = out[rank - o->shape.size() + i];
      d = std::max(d, o->shape[i]);
    }
  out[rank - 2] = a.shape[a.shape.size() - 2];
  out[rank - 1] = b.shape.back();
  rule.shapes = {out};
  rule.flops = 2.0 * static_cast<double>(element_count(out)) * static_cast<double>(a.shape.back());
  if (!a.has_rows() && !b.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  if (!a.has_rows() || a.tensor->axis != a.rank() - 2 || a.tensor->outer != 1)
    return host_rule("the rows of its left side are not its tokens");
  rule.axis = static_cast<int>(rank) - 2;
  rule.extent = a.tensor->extent;
  rule.maps = {RowMap{}, b.has_rows() ? RowMap::whole(b.tensor->rows) : RowMap{}};
  return rule;
}

}  // namespace

const std::map<std::string, RuleFunction>& reduction_rules() {
  static const std::map<std::string, RuleFunction> table = {
      {"GlobalAveragePool", global_pool},
      {"GlobalMaxPool", global_pool},
      {"ReduceMean", reduce_operator},
      {"ReduceSum", reduce_operator},
      {"ReduceMax", reduce_operator},
      {"ReduceMin", reduce_operator},
      {"InstanceNormalization", instance_norm},
      {"GroupNormalization", group_norm},
      {"LayerNormalization", layer_norm},
      {"Gemm", gemm},
      {"MatMul", matmul},
  };
  return table;
}

}  // namespace outboard::split
