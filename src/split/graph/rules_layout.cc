// SPDX-License-Identifier: Apache-2.0
// Operators that move elements: concat, split, slice, gather, reshape, transpose. They keep the
// rows where the row axis survives; a reshape may merge it with its neighbours (Tensor::outer and
// extent).
#include <onnx/onnx_pb.h>

#include <limits>

#include "split/graph/attributes.h"
#include "split/graph/rules.h"

namespace outboard::split {
namespace {

Rule like(const Operand& x, Shape shape) {
  Rule rule;
  rule.shapes = {std::move(shape)};
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  rule.axis = x.tensor->axis;
  rule.outer = x.tensor->outer;
  rule.extent = x.tensor->extent;
  return rule;
}

std::int64_t axis_of(const Site& site, const char* name, std::int64_t otherwise) {
  const auto axis = attribute_int(site.node, name, otherwise);
  return axis < 0 ? axis + site.in[0].rank() : axis;
}

// On the host, but of a known shape.
Rule gathered(const char* reason, const Shape& shape) {
  Rule rule = host_rule(reason);
  rule.shapes = {shape};
  return rule;
}

Rule concat(const Site& site) {
  const auto axis = axis_of(site, "axis", 0);
  const auto a = static_cast<std::size_t>(axis);
  Shape out = site.in[0].shape;
  const Tensor* leader = nullptr;
  for (std::size_t i = 0; i < site.in.size(); ++i) {
    if (site.in[i].rank() <= axis) return host_rule("its inputs differ in rank");
    if (i > 0) out[a] += site.in[i].shape[a];
    if (site.in[i].has_rows()) leader = site.in[i].tensor;
  }
  Rule rule;
  rule.shapes = {out};
  if (!leader) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  for (const auto& o : site.in) {
    if (o.constant) continue;
    if (!o.has_rows() || o.tensor->axis != leader->axis || o.tensor->outer != leader->outer ||
        o.tensor->extent != leader->extent || o.tensor->rows != leader->rows)
      return gathered("its inputs are divided along different axes", out);
  }
  if (leader->axis == axis) return gathered("it puts rows behind rows", out);
  rule.axis = leader->axis;
  rule.outer = leader->outer;
  rule.extent = leader->extent;
  return rule;
}

Rule split(const Site& site) {
  const Operand& x = site.in[0];
  const auto axis = axis_of(site, "axis", 0);
  const auto a = static_cast<std::size_t>(axis);
  const int n = site.node.output_size();
  auto sizes = attribute_ints(site.node, "split");
  if (sizes.empty() && site.value(1)) sizes = site.value(1)->as_ints();
  if (sizes.empty() && site.has(1)) return host_rule("its sizes are computed");
  if (sizes.empty()) {
    const std::int64_t each = (x.shape[a] + n - 1) / n;
    sizes.assign(static_cast<std::size_t>(n), each);
    sizes.back() = x.shape[a] - each * (n - 1);
  }
  Rule rule = like(x, x.shape);
  if (x.has_rows() && x.tensor->axis == axis) rule = host_rule("it splits the rows");
  rule.shapes.assign(sizes.size(), x.shape);
  for (std::size_t i = 0; i < sizes.size(); ++i) rule.shapes[i][a] = sizes[i];
  return rule;
}

struct SliceRange {
  std::vector<std::int64_t> starts, ends, axes, steps;
};

std::optional<SliceRange> slice_range(const Site& site) {
  SliceRange r;
  if (site.opset < 10) {
    r = {attribute_ints(site.node, "starts"),
         attribute_ints(site.node, "ends"),
         attribute_ints(site.node, "axes"),
         {}};
  } else {
    const auto take = [&](std::size_t i, std::vector<std::int64_t>& to) {
      if (!site.has(i)) return true;
      if (!site.value(i)) return false;
      to = site.value(i)->as_ints();
      return true;
    };
    if (!take(1, r.starts) || !take(2, r.ends) || !take(3, r.axes) || !take(4, r.steps))
      return std::nullopt;
  }
  if (r.starts.empty() || r.starts.size() != r.ends.size()) return std::nullopt;
  if (r.axes.empty())
    for (std::size_t i = 0; i < r.starts.size(); ++i)
      r.axes.push_back(static_cast<std::int64_t>(i));
  r.steps.resize(r.starts.size(), 1);
  return r;
}

Rule slice(const Site& site) {
  const Operand& x = site.in[0];
  auto range = slice_range(site);
  if (!range) return host_rule("its range is computed");
  Rule rule = like(x, x.shape);
  Shape& out = rule.shapes[0];
  for (std::size_t i = 0; i < range->axes.size(); ++i) {
    const auto axis = range->axes[i] < 0 ? range->axes[i] + x.rank() : range->axes[i];
    if (axis < 0 || axis >= x.rank()) return host_rule("its axes are wrong");
    const std::int64_t n = x.shape[static_cast<std::size_t>(axis)], step = range->steps[i];
    if (step <= 0) return host_rule("it reverses an axis");
    std::int64_t lo = range->starts[i], hi = range->ends[i];
    lo = std::clamp<std::int64_t>(lo < 0 ? lo + n : lo, 0, n);
    hi = std::clamp<std::int64_t>(hi < 0 ? hi + n : hi, lo, n);
    const std::int64_t count = (hi - lo + step - 1) / step;
    if (count <= 0) return host_rule("it takes nothing");
    out[static_cast<std::size_t>(axis)] = count;
    if (!x.has_rows() || x.tensor->axis != axis || (lo == 0 && hi == n && step == 1)) continue;
    if (x.tensor->outer != 1 || x.tensor->extent != 1)
      return host_rule("it takes some of the rows of a flattened image");
    if (count == 1) {  // one token: no rows are left
      rule.kind = OpKind::kReplicated;
      rule.axis = -1;
      rule.maps = {RowMap{1, 1, static_cast<int>(lo), static_cast<int>(lo) + 1, true}};
      continue;
    }
    rule.window.stride = static_cast<int>(step);
    rule.maps = {
        RowMap{static_cast<int>(step), 1, static_cast<int>(lo), static_cast<int>(lo), false}};
  }
  return rule;
}

// Embeddings (rows of a constant table by row index), or one constant index along an axis.
Rule gather(const Site& site) {
  const Operand &data = site.in[0], &index = site.in[1];
  const auto axis = axis_of(site, "axis", 0);
  const auto a = static_cast<std::size_t>(axis);
  Shape out(data.shape.begin(), data.shape.begin() + axis);
  out.insert(out.end(), index.shape.begin(), index.shape.end());
  out.insert(out.end(), data.shape.begin() + axis + 1, data.shape.end());
  Rule rule;
  rule.shapes = {out};
  rule.types = {data.element_type};
  if (data.constant && index.has_rows()) {
    rule.axis = index.tensor->axis + static_cast<int>(axis);
    rule.outer = index.tensor->outer;
    rule.extent = index.tensor->extent;
    rule.maps = {RowMap{}, RowMap{}};
    return rule;
  }
  if (!data.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  const Tensor& t = *data.tensor;
  if (!index.value) return host_rule("its indices depend on data");
  if (t.axis != axis) {
    rule.axis = t.axis < axis ? t.axis : t.axis + index.rank() - 1;
    rule.outer = t.outer;
    rule.extent = t.extent;
    return rule;
  }
  if (index.value->values.size() != 1 || t.outer != 1 || t.extent != 1)
    return host_rule("it picks several rows");
  std::int64_t i = index.value->as_ints()[0];
  if (i < 0) i += data.shape[a];
  rule.kind = OpKind::kReplicated;
  rule.maps = {RowMap{1, 1, static_cast<int>(i), static_cast<int>(i) + 1, true}};
  return rule;
}

// Where the rows are in `out`, the same elements in the same order under other dimensions.
bool place_rows(const Operand& x, const Shape& out, Rule& rule) {
  const Tensor& t = *x.tensor;
  std::int64_t before = t.outer, inner = t.extent;
  for (int i = 0; i < x.rank(); ++i) {
    if (i < t.axis) before *= x.shape[static_cast<std::size_t>(i)];
    if (i > t.axis) inner *= x.shape[static_cast<std::size_t>(i)];
  }
  const std::int64_t total = element_count(out);
  bool found = false;
  std::int64_t lead = 1;
  for (std::size_t k = 0; k < out.size() && lead <= before; lead *= out[k++]) {
    const std::int64_t tail = total / (lead * out[k]);
    if (before % lead != 0 || inner % tail != 0) continue;
    const std::int64_t outer = before / lead, extent = inner / tail;
    if (outer * t.rows * extent != out[k]) continue;
    if (found && (outer > rule.outer || extent > rule.extent)) continue;
    rule.axis = static_cast<int>(k);
    rule.outer = static_cast<int>(outer);
    rule.extent = static_cast<int>(extent);
    found = true;
  }
  return found;
}

Rule reshaped(const Operand& x, const Shape& out) {
  Rule rule;
  rule.pointwise = true;  // no copy
  rule.shapes = {out};
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  if (element_count(out) != element_count(x.shape) || !place_rows(x, out, rule))
    return gathered("it tears rows apart", out);
  return rule;
}

Rule reshape(const Site& site) {
  const Operand& x = site.in[0];
  std::vector<std::int64_t> dims = attribute_ints(site.node, "shape");
  if (site.has(1)) {
    if (!site.value(1)) return host_rule("its shape depends on data");
    dims = site.value(1)->as_ints();
  }
  std::int64_t known = 1;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && i < x.shape.size() && attribute_int(site.node, "allowzero", 0) == 0)
      dims[i] = x.shape[i];
    if (dims[i] > 0) known *= dims[i];
  }
  for (auto& d : dims)
    if (d == -1) d = known > 0 ? element_count(x.shape) / known : 0;
  return reshaped(x, dims);
}

Rule flatten(const Site& site) {
  const auto axis = axis_of(site, "axis", 1);
  const Shape& in = site.in[0].shape;
  Shape out = {1, 1};
  for (std::size_t i = 0; i < in.size(); ++i)
    out[static_cast<std::int64_t>(i) < axis ? 0 : 1] *= in[i];
  return reshaped(site.in[0], out);
}

std::vector<std::int64_t> axes_of(const Site& site) {
  auto axes = attribute_ints(site.node, "axes");
  if (axes.empty() && site.value(1)) axes = site.value(1)->as_ints();
  return axes;
}

Rule squeeze(const Site& site) {
  const Operand& x = site.in[0];
  auto axes = axes_of(site);
  Shape out;
  for (int i = 0; i < x.rank(); ++i) {
    bool drop = axes.empty() && x.shape[static_cast<std::size_t>(i)] == 1;
    for (auto a : axes) drop |= (a < 0 ? a + x.rank() : a) == i;
    if (!drop) out.push_back(x.shape[static_cast<std::size_t>(i)]);
  }
  return reshaped(x, out);
}

Rule unsqueeze(const Site& site) {
  const Operand& x = site.in[0];
  const auto axes = axes_of(site);
  const auto rank = std::int64_t{x.rank()} + static_cast<std::int64_t>(axes.size());
  Shape out(static_cast<std::size_t>(rank), -1);
  for (auto a : axes) {
    a = a < 0 ? a + rank : a;
    if (a < 0 || a >= rank) return host_rule("its axes are wrong");
    out[static_cast<std::size_t>(a)] = 1;
  }
  std::size_t next = 0;
  for (auto& d : out)
    if (d < 0) d = x.shape[next++];
  return reshaped(x, out);
}

Rule transpose(const Site& site) {
  const Operand& x = site.in[0];
  auto perm = attribute_ints(site.node, "perm");
  if (perm.empty())
    for (int i = x.rank() - 1; i >= 0; --i) perm.push_back(i);
  Shape out;
  int axis = -1;
  for (std::size_t i = 0; i < perm.size(); ++i) {
    out.push_back(x.shape[static_cast<std::size_t>(perm[i])]);
    if (x.has_rows() && perm[i] == x.tensor->axis) axis = static_cast<int>(i);
  }
  Rule rule = like(x, out);
  rule.axis = axis;
  return rule;
}

Rule expand(const Site& site) {
  const Operand& x = site.in[0];
  if (!site.value(1)) return host_rule("its shape depends on data");
  Shape want = site.value(1)->as_ints(), out = x.shape;
  while (out.size() < want.size()) out.insert(out.begin(), 1);
  while (want.size() < out.size()) want.insert(want.begin(), 1);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (want[i] != 1) out[i] = want[i];
  if (x.has_rows()) return host_rule("it repeats rows");
  Rule rule;
  rule.kind = OpKind::kReplicated;
  rule.shapes = {out};
  return rule;
}

}  // namespace

const std::map<std::string, RuleFunction>& layout_rules() {
  static const std::map<std::string, RuleFunction> table = {
      {"Concat", concat},       {"Split", split},         {"Slice", slice},
      {"Gather", gather},       {"Reshape", reshape},     {"Flatten", flatten},
      {"Squeeze", squeeze},     {"Unsqueeze", unsqueeze}, {"Expand", expand},
      {"Transpose", transpose},
  };
  return table;
}

}  // namespace outboard::split
