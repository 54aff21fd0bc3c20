// SPDX-License-Identifier: Apache-2.0
// Convolution, pooling, transposed convolution, resize and pad. Receptive field of output rows [a,
// b) of a window of k rows, stride s, dilation d, top pad p: [a*s - p, (b-1)*s - p + d(k-1) + 1),
// where what lies outside of the input is padding: pads only at the borders of the image, none at a
// cut.
#include <onnx/onnx_pb.h>

#include <cmath>

#include "split/graph/attributes.h"
#include "split/graph/rules.h"

namespace outboard::split {
namespace {

struct Geometry {
  std::vector<std::int64_t> kernel, stride, dilation, begin, end;
};

Geometry geometry(const onnx::NodeProto& node, const Shape& kernel) {
  const std::size_t n = kernel.size();
  const auto with = [&](const char* name, std::int64_t otherwise) {
    auto v = attribute_ints(node, name);
    v.resize(n, otherwise);
    return v;
  };
  Geometry g{kernel, with("strides", 1), with("dilations", 1), {}, {}};
  auto pads = attribute_ints(node, "pads");
  pads.resize(2 * n, 0);
  g.begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(n));
  g.end.assign(pads.begin() + static_cast<std::ptrdiff_t>(n), pads.end());
  return g;
}

std::int64_t window_count(std::int64_t in, std::int64_t k, std::int64_t s, std::int64_t d,
                          std::int64_t begin, std::int64_t end, bool ceil_mode) {
  const std::int64_t room = in + begin + end - (d * (k - 1) + 1);
  if (room < 0) return 0;
  std::int64_t n = room / s + 1;
  // The last window must begin inside of the input or of the pad before it.
  if (ceil_mode && room % s != 0 && n * s < in + begin) ++n;
  return n;
}

// A 4-D (or 3-D, or 5-D) image whose rows are axis 2, undivided by any reshape.
bool is_image(const Operand& x) {
  return x.rank() >= 3 &&
         (!x.has_rows() || (x.tensor->axis == 2 && x.tensor->outer == 1 && x.tensor->extent == 1));
}

Rule windowed(const Site& site, const Geometry& g, std::int64_t channels, bool ceil_mode) {
  const Operand& x = site.in[0];
  Rule rule;
  Shape out = {x.shape[0], channels};
  for (std::size_t i = 0; i < g.kernel.size(); ++i)
    out.push_back(window_count(x.shape[i + 2], g.kernel[i], g.stride[i], g.dilation[i], g.begin[i],
                               g.end[i], ceil_mode));
  rule.shapes = {out};
  const int reach = static_cast<int>(g.dilation[0] * (g.kernel[0] - 1));
  const int pad = static_cast<int>(g.begin[0]), stride = static_cast<int>(g.stride[0]);
  rule.window = {pad, static_cast<int>(g.end[0]), stride, reach, 1};
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  rule.axis = 2;
  rule.maps = {RowMap{stride, 1, -pad, reach - pad, false}};
  return rule;
}

Rule conv(const Site& site) {
  const Operand& x = site.in[0];
  if (!site.has(1) || !site.in[1].constant) return host_rule("its weights are computed");
  const Shape& w = site.in[1].shape;
  if (!is_image(x) || w.size() != x.shape.size()) return host_rule("its input is not an image");
  const Shape kernel(w.begin() + 2, w.end());
  Rule rule = windowed(site, geometry(site.node, kernel), w[0], false);
  rule.flops = 2.0 * static_cast<double>(element_count(rule.shapes[0])) *
               static_cast<double>(element_count(w)) / static_cast<double>(w[0]);
  rule.weight_bytes = site.in[1].bytes() + (site.has(2) ? site.in[2].bytes() : 0);
  return rule;
}

Rule pool(const Site& site) {
  const Operand& x = site.in[0];
  const auto kernel = attribute_ints(site.node, "kernel_shape");
  if (!is_image(x) || kernel.size() + 2 != x.shape.size())
    return host_rule("its input is not an image");
  if (site.node.output_size() > 1 && !site.node.output(1).empty())
    return host_rule("it returns the indices of the maxima");
  const bool ceil_mode = attribute_int(site.node, "ceil_mode", 0) != 0;
  Rule rule = windowed(site, geometry(site.node, kernel), x.shape[1], ceil_mode);
  rule.flops = static_cast<double>(element_count(rule.shapes[0])) *
               static_cast<double>(element_count(kernel));
  return rule;
}

Rule conv_transpose(const Site& site) {
  const Operand& x = site.in[0];
  if (!site.has(1) || !site.in[1].constant) return host_rule("its weights are computed");
  const Shape& w = site.in[1].shape;
  if (!is_image(x) || w.size() != x.shape.size()) return host_rule("its input is not an image");
  if (find_attribute(site.node, "output_shape")) return host_rule("it fixes its output shape");
  const Shape kernel(w.begin() + 2, w.end());
  const Geometry g = geometry(site.node, kernel);
  auto extra = attribute_ints(site.node, "output_padding");
  extra.resize(kernel.size(), 0);
  Shape out = {x.shape[0], w[1] * attribute_int(site.node, "group", 1)};
  for (std::size_t i = 0; i < kernel.size(); ++i)
    out.push_back((x.shape[i + 2] - 1) * g.stride[i] + g.dilation[i] * (kernel[i] - 1) + 1 -
                  g.begin[i] - g.end[i] + extra[i]);
  const int reach = static_cast<int>(g.dilation[0] * (g.kernel[0] - 1));
  const int pad = static_cast<int>(g.begin[0]), stride = static_cast<int>(g.stride[0]);
  Rule rule;
  rule.shapes = {out};
  rule.window = {pad, static_cast<int>(g.end[0]), stride, reach, 1};
  rule.flops = 2.0 * static_cast<double>(element_count(x.shape)) *
               static_cast<double>(element_count(w)) / static_cast<double>(w[0]);
  rule.weight_bytes = site.in[1].bytes();
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  if (reach + 1 < stride) return host_rule("its kernel is smaller than its stride");
  rule.axis = 2;
  rule.maps = {RowMap{1, stride, pad - reach + stride - 1, pad, false}};
  return rule;
}

// The factor of each axis from `scales` or `sizes`; empty when they are not known.
std::vector<double> factors(const Site& site) {
  const bool old = site.node.op_type() == "Upsample" || site.opset < 11;
  const ConstValue* scales = site.value(old ? 1 : 2);
  std::vector<double> out;
  if (scales && !scales->values.empty()) return scales->values;
  if (const auto* attribute = find_attribute(site.node, "scales"))
    return {attribute->floats().begin(), attribute->floats().end()};
  if (const ConstValue* sizes = site.value(3)) {
    for (std::size_t i = 0; i < sizes->values.size() && i < site.in[0].shape.size(); ++i)
      out.push_back(sizes->values[i] / static_cast<double>(site.in[0].shape[i]));
  }
  return out;
}

Rule resize(const Site& site) {
  const Operand& x = site.in[0];
  const auto f = factors(site);
  if (f.size() != x.shape.size()) return host_rule("its scales depend on data");
  Rule rule;
  Shape out;
  for (std::size_t i = 0; i < f.size(); ++i)
    out.push_back(
        static_cast<std::int64_t>(std::floor(static_cast<double>(x.shape[i]) * f[i] + 1e-6)));
  rule.shapes = {out};
  rule.flops = 4.0 * static_cast<double>(element_count(out));
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  const Tensor& t = *x.tensor;
  const auto a = static_cast<std::size_t>(t.axis);
  const int factor = static_cast<int>(std::lround(f[a]));
  if (t.outer != 1 || t.extent != 1 || factor < 1 || std::abs(f[a] - factor) > 1e-6)
    return host_rule("it resizes rows by a factor that is not a whole number");
  rule.axis = t.axis;
  rule.window.factor = factor;
  if (factor == 1) return rule;
  const bool old = site.node.op_type() == "Upsample" || site.opset < 11;
  const std::string mode = attribute_string(site.node, "mode", "nearest");
  const std::string transform =
      old ? "asymmetric"
          : attribute_string(site.node, "coordinate_transformation_mode", "half_pixel");
  const std::string nearest =
      old ? "floor" : attribute_string(site.node, "nearest_mode", "round_prefer_floor");
  const bool half = transform == "half_pixel" || transform == "pytorch_half_pixel";
  if (!half && transform != "asymmetric")
    return host_rule("its coordinates (" + transform + ") depend on the whole height");
  if (attribute_int(site.node, "antialias", 0) != 0) return host_rule("it smooths (antialias)");
  if (mode == "nearest" && !half && nearest == "floor") {
    rule.maps = {RowMap{1, factor, 0, 0, false}};
  } else if (mode == "nearest" || mode == "linear") {
    rule.maps = {half ? RowMap{2, 2 * factor, 1 - factor, 1 + factor, false}
                      : RowMap{1, factor, 0, factor, false}};
  } else {
    return host_rule("its mode (" + mode + ") has no row rule");
  }
  return rule;
}

Rule pad(const Site& site) {
  const Operand& x = site.in[0];
  auto pads = attribute_ints(site.node, "pads");
  if (pads.empty() && site.value(1)) pads = site.value(1)->as_ints();
  if (site.has(3) || pads.size() != 2 * x.shape.size())
    return host_rule("its pads are not known beforehand");
  Rule rule;
  Shape out = x.shape;
  const std::size_t n = out.size();
  for (std::size_t i = 0; i < n; ++i) out[i] += pads[i] + pads[i + n];
  rule.shapes = {out};
  if (!x.has_rows()) {
    rule.kind = OpKind::kReplicated;
    return rule;
  }
  const auto a = static_cast<std::size_t>(x.tensor->axis);
  const int top = static_cast<int>(pads[a]), bottom = static_cast<int>(pads[a + n]);
  const bool constant = attribute_string(site.node, "mode", "constant") == "constant";
  if ((top != 0 || bottom != 0) &&
      (!constant || top < 0 || bottom < 0 || x.tensor->outer != 1 || x.tensor->extent != 1))
    return host_rule("it pads rows with other rows");
  rule.axis = x.tensor->axis;
  rule.outer = x.tensor->outer;
  rule.extent = x.tensor->extent;
  rule.window = {top, bottom, 1, 0, 1};
  rule.maps = {RowMap{1, 1, -top, -top, false}};
  return rule;
}

// [N, C*f*f, H, W] -> [N, C, H*f, W*f]: output row a comes from input row a / f.
Rule depth_to_space(const Site& site) {
  const Operand& x = site.in[0];
  const auto f = attribute_int(site.node, "blocksize", 1);
  if (!is_image(x) || x.rank() != 4 || f < 1) return host_rule("its input is not an image");
  Rule rule;
  rule.shapes = {{x.shape[0], x.shape[1] / (f * f), x.shape[2] * f, x.shape[3] * f}};
  rule.kind = x.has_rows() ? OpKind::kRows : OpKind::kReplicated;
  if (!x.has_rows()) return rule;
  rule.axis = 2;
  rule.window.factor = static_cast<int>(f);
  rule.maps = {RowMap{1, static_cast<int>(f), 0, 0, false}};
  return rule;
}

Rule space_to_depth(const Site& site) {
  const Operand& x = site.in[0];
  const auto f = attribute_int(site.node, "blocksize", 1);
  if (!is_image(x) || x.rank() != 4 || f < 1) return host_rule("its input is not an image");
  Rule rule;
  rule.shapes = {{x.shape[0], x.shape[1] * f * f, x.shape[2] / f, x.shape[3] / f}};
  rule.kind = x.has_rows() ? OpKind::kRows : OpKind::kReplicated;
  if (!x.has_rows()) return rule;
  rule.axis = 2;
  rule.maps = {RowMap{static_cast<int>(f), 1, 0, static_cast<int>(f) - 1, false}};
  return rule;
}

}  // namespace

void make_pads_explicit(onnx::NodeProto& node, const Shape& input, const Shape& weight) {
  const std::string mode = attribute_string(node, "auto_pad", "NOTSET");
  if (!find_attribute(node, "auto_pad")) return;
  remove_attribute(node, "auto_pad");
  if (mode == "NOTSET") return;
  auto kernel = attribute_ints(node, "kernel_shape");
  if (kernel.empty() && weight.size() > 2) kernel.assign(weight.begin() + 2, weight.end());
  const std::size_t n = kernel.size();
  if (input.size() != n + 2) return;
  const Geometry g = geometry(node, kernel);
  auto extra = attribute_ints(node, "output_padding");
  extra.resize(n, 0);
  std::vector<std::int64_t> pads(2 * n, 0);
  for (std::size_t i = 0; i < n && mode != "VALID"; ++i) {
    const std::int64_t reach = g.dilation[i] * (kernel[i] - 1) + 1, in = input[i + 2],
                       s = g.stride[i];
    const std::int64_t total =
        node.op_type() == "ConvTranspose"
            ? std::max<std::int64_t>(0, reach - s + extra[i])
            : std::max<std::int64_t>(0, ((in + s - 1) / s - 1) * s + reach - in);
    const bool lower = mode == "SAME_LOWER";
    pads[i] = lower ? total - total / 2 : total / 2;
    pads[i + n] = total - pads[i];
  }
  set_attribute(node, "pads", pads);
}

const std::map<std::string, RuleFunction>& spatial_rules() {
  static const std::map<std::string, RuleFunction> table = {
      {"Conv", conv},
      {"MaxPool", pool},
      {"AveragePool", pool},
      {"LpPool", pool},
      {"Resize", resize},
      {"Upsample", resize},
      {"Pad", pad},
      {"ConvTranspose", conv_transpose},
      {"DepthToSpace", depth_to_space},
      {"SpaceToDepth", space_to_depth},
  };
  return table;
}

}  // namespace outboard::split
