// SPDX-License-Identifier: Apache-2.0
#include "split/graph/constants.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "split/graph/attributes.h"

namespace outboard::split {
namespace {

using onnx::TensorProto;
using Dims = std::vector<std::int64_t>;

template <typename T>
void append_raw(std::span<const std::byte> raw, std::vector<double>& out) {
  for (std::size_t at = 0; at + sizeof(T) <= raw.size(); at += sizeof(T)) {
    T value;
    std::memcpy(&value, raw.data() + at, sizeof(T));
    out.push_back(static_cast<double>(value));
  }
}

bool read_raw(int type, std::span<const std::byte> raw, std::vector<double>& out) {
  switch (type) {
    case TensorProto::FLOAT:
      append_raw<float>(raw, out);
      return true;
    case TensorProto::DOUBLE:
      append_raw<double>(raw, out);
      return true;
    case TensorProto::INT64:
      append_raw<std::int64_t>(raw, out);
      return true;
    case TensorProto::INT32:
      append_raw<std::int32_t>(raw, out);
      return true;
    case TensorProto::BOOL:
    case TensorProto::UINT8:
      append_raw<std::uint8_t>(raw, out);
      return true;
    case TensorProto::INT8:
      append_raw<std::int8_t>(raw, out);
      return true;
    default:
      return false;
  }
}

std::int64_t saturate(double v) {
  if (v >= 9.2e18) return std::numeric_limits<std::int64_t>::max();
  if (v <= -9.2e18) return std::numeric_limits<std::int64_t>::min();
  return static_cast<std::int64_t>(v);
}

bool is_integer(int type) { return type != TensorProto::FLOAT && type != TensorProto::DOUBLE; }

std::optional<double> apply(const std::string& op, double a, double b, bool integer) {
  if (op == "Add") return a + b;
  if (op == "Sub") return a - b;
  if (op == "Mul") return a * b;
  if (op == "Div") {
    if (integer && b == 0) return std::nullopt;
    return integer ? std::trunc(a / b) : a / b;
  }
  if (op == "Mod" && b != 0) return a - b * std::floor(a / b);
  if (op == "Min") return std::min(a, b);
  if (op == "Max") return std::max(a, b);
  if (op == "Equal") return a == b ? 1.0 : 0.0;
  if (op == "Less") return a < b ? 1.0 : 0.0;
  if (op == "Greater") return a > b ? 1.0 : 0.0;
  return std::nullopt;
}

// Scalars and equal sizes only: that is what shape arithmetic uses.
std::optional<ConstValue> binary(const std::string& op, const ConstValue& a, const ConstValue& b) {
  const std::size_t n = std::max(a.values.size(), b.values.size());
  if ((a.values.size() != n && a.values.size() != 1) ||
      (b.values.size() != n && b.values.size() != 1))
    return std::nullopt;
  ConstValue out = a.dims.size() >= b.dims.size() && a.values.size() == n ? a : b;
  const int type = a.element_type;
  out.values.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto v = apply(op, a.values[a.values.size() == 1 ? 0 : i],
                         b.values[b.values.size() == 1 ? 0 : i], is_integer(type));
    if (!v) return std::nullopt;
    out.values[i] = *v;
  }
  const bool compares = op == "Equal" || op == "Less" || op == "Greater";
  out.element_type = compares ? static_cast<int>(TensorProto::BOOL) : type;
  return out;
}

std::optional<ConstValue> gather(const ConstValue& data, const ConstValue& indices,
                                 std::int64_t axis) {
  if (axis != 0 || data.dims.size() != 1) return std::nullopt;
  ConstValue out{data.element_type, indices.dims, {}};
  const auto n = static_cast<double>(data.values.size());
  for (double i : indices.values) {
    if (i < 0) i += n;
    if (i < 0 || i >= n) return std::nullopt;
    out.values.push_back(data.values[static_cast<std::size_t>(i)]);
  }
  return out;
}

std::optional<ConstValue> concat(const std::vector<const ConstValue*>& inputs) {
  ConstValue out;
  for (const auto* in : inputs) {
    if (!in || in->dims.size() != 1) return std::nullopt;
    out.element_type = in->element_type;
    out.values.insert(out.values.end(), in->values.begin(), in->values.end());
  }
  out.dims = {static_cast<std::int64_t>(out.values.size())};
  return out;
}

std::optional<ConstValue> slice(const ConstValue& data, std::int64_t start, std::int64_t end,
                                std::int64_t step) {
  if (data.dims.size() != 1 || step != 1) return std::nullopt;
  const auto n = static_cast<std::int64_t>(data.values.size());
  if (start < 0) start += n;
  if (end < 0) end += n;
  start = std::clamp<std::int64_t>(start, 0, n);
  end = std::clamp<std::int64_t>(end, start, n);
  ConstValue out{data.element_type, {end - start}, {}};
  out.values.assign(data.values.begin() + start, data.values.begin() + end);
  return out;
}

ConstValue with_dims(const ConstValue& in, Dims dims) {
  ConstValue out = in;
  out.dims = std::move(dims);
  return out;
}

std::optional<ConstValue> reshape(const ConstValue& in, Dims dims) {
  const auto n = static_cast<std::int64_t>(in.values.size());
  std::int64_t known = 1;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && i < in.dims.size()) dims[i] = in.dims[i];
    if (dims[i] > 0) known *= dims[i];
  }
  for (auto& d : dims)
    if (d == -1) d = known == 0 ? 0 : n / known;
  if (element_count(dims) != n) return std::nullopt;
  return with_dims(in, std::move(dims));
}

std::optional<ConstValue> unary(const onnx::NodeProto& node, const ConstValue& in) {
  ConstValue out = in;
  const std::string& op = node.op_type();
  if (op == "Identity") return out;
  if (op == "Cast") {
    out.element_type = static_cast<int>(attribute_int(node, "to", 0));
    if (is_integer(out.element_type))
      for (auto& v : out.values) v = std::trunc(v);
    return out;
  }
  double (*f)(double) = nullptr;
  if (op == "Floor") f = std::floor;
  if (op == "Ceil") f = std::ceil;
  if (op == "Sqrt") f = std::sqrt;
  if (op == "Neg") f = +[](double v) { return -v; };
  if (!f) return std::nullopt;
  for (auto& v : out.values) v = f(v);
  return out;
}

std::optional<ConstValue> range(const ConstValue& start, const ConstValue& limit,
                                const ConstValue& delta) {
  if (start.values.empty() || limit.values.empty() || delta.values.empty() || delta.values[0] == 0)
    return std::nullopt;
  ConstValue out{start.element_type, {}, {}};
  const double n = std::ceil((limit.values[0] - start.values[0]) / delta.values[0]);
  if (n > static_cast<double>(kMaxFoldedElements)) return std::nullopt;
  for (double i = 0; i < n; ++i) out.values.push_back(start.values[0] + i * delta.values[0]);
  out.dims = {static_cast<std::int64_t>(out.values.size())};
  return out;
}

}  // namespace

std::vector<std::int64_t> ConstValue::as_ints() const {
  std::vector<std::int64_t> out;
  out.reserve(values.size());
  for (double v : values) out.push_back(saturate(v));
  return out;
}

int element_size_bytes(int type) {
  switch (type) {
    case TensorProto::DOUBLE:
    case TensorProto::INT64:
    case TensorProto::UINT64:
      return 8;
    case TensorProto::FLOAT:
    case TensorProto::INT32:
    case TensorProto::UINT32:
      return 4;
    case TensorProto::FLOAT16:
    case TensorProto::BFLOAT16:
    case TensorProto::INT16:
    case TensorProto::UINT16:
      return 2;
    case TensorProto::BOOL:
    case TensorProto::UINT8:
    case TensorProto::INT8:
      return 1;
    default:
      return 0;
  }
}

std::int64_t element_count(const Dims& dims) {
  std::int64_t n = 1;
  for (auto d : dims)
    if (__builtin_mul_overflow(n, d, &n)) n = kMostElements;
  return std::clamp(n, -kMostElements, kMostElements);
}

std::optional<ConstValue> const_value(const TensorProto& tensor, std::span<const std::byte> raw) {
  const Dims dims(tensor.dims().begin(), tensor.dims().end());
  const auto n = element_count(dims);
  if (n < 0 || n > static_cast<std::int64_t>(kMaxFoldedElements)) return std::nullopt;
  ConstValue out{tensor.data_type(), dims, {}};
  if (!raw.empty()) {
    if (!read_raw(tensor.data_type(), raw, out.values)) return std::nullopt;
  } else {
    const auto append = [&](const auto& field) {
      for (auto v : field) out.values.push_back(static_cast<double>(v));
    };
    append(tensor.float_data());
    append(tensor.double_data());
    append(tensor.int64_data());
    append(tensor.int32_data());
    if (tensor.data_type() == TensorProto::FLOAT16 || tensor.data_type() == TensorProto::BFLOAT16)
      return std::nullopt;
  }
  if (static_cast<std::int64_t>(out.values.size()) != n) return std::nullopt;
  return out;
}

TensorProto to_proto(const ConstValue& value, const std::string& name) {
  TensorProto out;
  out.set_name(name);
  out.set_data_type(value.element_type);
  for (auto d : value.dims) out.add_dims(d);
  for (double v : value.values) {
    switch (value.element_type) {
      case TensorProto::FLOAT:
        out.add_float_data(static_cast<float>(v));
        break;
      case TensorProto::DOUBLE:
        out.add_double_data(v);
        break;
      case TensorProto::INT64:
        out.add_int64_data(saturate(v));
        break;
      default:
        out.add_int32_data(static_cast<std::int32_t>(v));
        break;
    }
  }
  return out;
}

std::optional<ConstValue> fold(const onnx::NodeProto& node,
                               const std::vector<const ConstValue*>& in) {
  const std::string& op = node.op_type();
  const auto have = [&](std::size_t i) { return i < in.size() && in[i] != nullptr; };
  if (op == "Concat") return concat(in);
  if (!have(0)) return std::nullopt;
  if (op == "Gather" && have(1)) return gather(*in[0], *in[1], attribute_int(node, "axis", 0));
  if (op == "Range" && have(1) && have(2)) return range(*in[0], *in[1], *in[2]);
  if (op == "Reshape" && have(1)) return reshape(*in[0], in[1]->as_ints());
  if (op == "ReduceProd") {
    double product = 1;
    for (double v : in[0]->values) product *= v;
    return ConstValue{in[0]->element_type, {}, {product}};
  }
  if (op == "ConstantOfShape") {
    ConstValue fill{TensorProto::FLOAT, {1}, {0}};
    if (const auto* a = find_attribute(node, "value")) {
      if (auto v = const_value(a->t(), std::as_bytes(std::span(a->t().raw_data())))) fill = *v;
    }
    const Dims dims = in[0]->as_ints();
    const auto n = element_count(dims);
    if (n < 0 || n > static_cast<std::int64_t>(kMaxFoldedElements)) return std::nullopt;
    fill.dims = dims;
    fill.values.assign(static_cast<std::size_t>(n), fill.values.empty() ? 0 : fill.values[0]);
    return fill;
  }
  if (op == "Slice") {
    const Dims attr_starts = attribute_ints(node, "starts"),
               attr_ends = attribute_ints(node, "ends");
    if (!attr_starts.empty() && !attr_ends.empty())
      return slice(*in[0], attr_starts[0], attr_ends[0], 1);
    if (!have(1) || !have(2) || in[1]->values.size() != 1) return std::nullopt;
    const std::int64_t step = have(4) ? in[4]->as_ints()[0] : 1;
    return slice(*in[0], in[1]->as_ints()[0], in[2]->as_ints()[0], step);
  }
  if (op == "Unsqueeze" || op == "Squeeze") {
    if (in[0]->values.size() == 1 && op == "Squeeze") return with_dims(*in[0], {});
    if (op == "Unsqueeze" && in[0]->dims.size() <= 1) {
      Dims dims = in[0]->dims;
      dims.insert(dims.begin(), 1);
      return with_dims(*in[0], in[0]->dims.empty() ? Dims{1} : dims);
    }
    return std::nullopt;
  }
  if (op == "Where" && have(1) && have(2) && in[0]->values.size() == in[1]->values.size()) {
    ConstValue out = *in[1];
    for (std::size_t i = 0; i < out.values.size(); ++i)
      if (in[0]->values[i] == 0) out.values[i] = in[2]->values[in[2]->values.size() == 1 ? 0 : i];
    return out;
  }
  if (have(1)) return binary(op, *in[0], *in[1]);
  return unary(node, *in[0]);
}

}  // namespace outboard::split
