// SPDX-License-Identifier: Apache-2.0
// One operator of a band. Most keep their node; windows get the pads of their band, layout
// operators the shape of their band, and divided reductions become a few plain operators.
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "split/graph/attributes.h"
#include "split/graph/constants.h"
#include "split/graph/emitter.h"
#include "split/graph/rules.h"

namespace outboard::split {
namespace {

constexpr std::int64_t kEnd = std::numeric_limits<std::int32_t>::max();
// From here on weights of one row of an image are multiplied in a call of their own.
constexpr double kRowOfWeights = 1 << 20;

// [rows, columns] to [columns, rows], in squares that stay in the caches.
std::string transposed(std::span<const std::byte> from, std::size_t rows, std::size_t columns) {
  constexpr std::size_t kSquare = 32;
  std::string to(from.size(), '\0');
  for (std::size_t r = 0; r < rows; r += kSquare)
    for (std::size_t c = 0; c < columns; c += kSquare)
      for (std::size_t i = r; i < std::min(rows, r + kSquare); ++i)
        for (std::size_t k = c; k < std::min(columns, c + kSquare); ++k)
          std::memcpy(&to[(k * rows + i) * sizeof(float)], &from[(i * columns + k) * sizeof(float)],
                      sizeof(float));
  return to;
}
bool is_pool(const Op& op) { return op.type.ends_with("Pool"); }

bool is_normalisation(const Op& op) { return op.type.ends_with("Normalization"); }

}  // namespace

std::string Emitter::raw_values(const onnx::TensorProto& t) {
  std::string out;
  const auto append = [&](auto v) { out.append(reinterpret_cast<const char*>(&v), sizeof(v)); };
  for (float v : t.float_data()) append(v);
  for (double v : t.double_data()) append(v);
  for (std::int64_t v : t.int64_data()) append(v);
  for (std::int32_t v : t.int32_data()) {
    if (element_size_bytes(t.data_type()) == 1)
      append(static_cast<std::int8_t>(v));
    else
      append(v);
  }
  return out;
}

Shape Emitter::constant_dims(const std::string& name) const {
  if (const auto it = graph_.constants->find(name); it != graph_.constants->end())
    return it->second.dims;
  const auto* init = graph_.file->initializer(name);
  return init ? Shape(init->dims().begin(), init->dims().end()) : Shape{};
}

// An attribute of old opsets that became an input: its values, wherever they are.
Shape Emitter::parameter_ints(const onnx::NodeProto& node, int input, const char* attribute) const {
  if (find_attribute(node, attribute) || input >= node.input_size() || node.input(input).empty())
    return attribute_ints(node, attribute);
  const std::string& name = node.input(input);
  if (const auto it = graph_.constants->find(name); it != graph_.constants->end())
    return it->second.as_ints();
  const auto* init = graph_.file->initializer(name);
  const auto value = init ? const_value(*init, graph_.file->raw(name)) : std::nullopt;
  return value ? value->as_ints() : Shape{};
}

void Emitter::add_op(const Op& op) {
  if (op.phase == Phase::kPartial) {
    if (is_linear(op)) return add_linear_partial(op);
    return is_normalisation(op) ? add_statistics(op) : add_reduce_partial(op);
  }
  if (op.phase == Phase::kCombine)
    return is_normalisation(op) ? add_normalise(op) : add_reduce_combine(op);
  add_plain(op, work_.run_rows(op));
}

void Emitter::add_plain(const Op& op, Rows out) {
  onnx::NodeProto node = node_of(op);
  bind_inputs(op, out, node);
  Rows made = out;
  if (op.kind == OpKind::kRows) {
    if (op.type == "Conv" || is_pool(op)) set_window(op, out, node);
    if (op.type == "ConvTranspose") set_transposed_window(op, out, node);
    if (is_linear(op) && op.weights_by_row) take_columns(op, out, node);
  }
  if (is_linear(op)) turn_weights(op, node);
  made = set_layout(op, out, node);
  for (int t : op.outputs) names_[t] = tensor(t).name;
  if (made == out) {
    *model_.mutable_graph()->add_node() = std::move(node);
    return;
  }
  // The operator makes whole groups of rows: cut out the wanted ones.
  const Tensor& t = tensor(op.outputs[0]);
  const std::string whole = fresh(t.name);
  node.set_output(0, whole);
  *model_.mutable_graph()->add_node() = std::move(node);
  names_[op.outputs[0]] = add_slice(whole, t.axis, out.lo - made.lo, out.hi - made.lo);
}

// An input for some output rows: a tensor that every node has whole is sliced where it has a row
// for each of the output's.
std::string Emitter::aligned(const Op& op, const Input& in, Rows out) {
  std::string name = value(in.tensor, op_needs(op, in, out));
  const Tensor& t = tensor(in.tensor);
  if (op.kind != OpKind::kRows || t.kind != TensorKind::kWhole ||
      !pointwise_rules().contains(op.type))
    return name;
  const Tensor& result = tensor(op.outputs[0]);
  const int at =
      result.axis - static_cast<int>(result.shape.size()) + static_cast<int>(t.shape.size());
  if (at < 0 || result.rows < 2 ||
      t.shape[static_cast<std::size_t>(at)] != std::int64_t{result.rows} * result.extent)
    return name;
  return add_slice(name, at, std::int64_t{out.lo} * result.extent,
                   std::int64_t{out.hi} * result.extent);
}

// Names the rows that the operator needs of each input, and of constants that have rows.
void Emitter::bind_inputs(const Op& op, Rows out, onnx::NodeProto& node) {
  std::size_t next = 0;
  const bool divides = op.kind == OpKind::kRows && !op.weights_by_row;
  const Tensor* result = op.outputs.empty() ? nullptr : &tensor(op.outputs[0]);
  for (int i = 0; i < node.input_size(); ++i) {
    const std::string name = node.input(i);
    if (name.empty()) continue;
    if (next < op.inputs.size() && tensor(op.inputs[next].tensor).name == name) {
      const Input& in = op.inputs[next++];
      node.set_input(i, aligned(op, in, out));
      continue;
    }
    const Shape dims = constant_dims(name);
    const int rank = result ? static_cast<int>(result->shape.size()) : 0;
    const int at = result ? result->axis - rank + static_cast<int>(dims.size()) : -1;
    const bool rows =
        result && divides && result->kind == TensorKind::kRows && at >= 0 && !is_linear(op) &&
        op.type != "Conv" && op.type != "ConvTranspose" && op.type != "Gather" &&
        op.type != "Resize" && op.type != "Reshape" && op.type != "Slice" && op.type != "Pad" &&
        dims[static_cast<std::size_t>(at)] != 1 &&
        dims[static_cast<std::size_t>(at)] == std::int64_t{result->rows} * result->extent;
    node.set_input(
        i, rows ? constant_rows(name, at, 1, result->rows, result->extent, out) : constant(name));
  }
  for (const auto& attribute : node.attribute()) {
    if (!attribute.has_g()) continue;
    // What a sub-graph reads from outside keeps its name.
    for (const auto& inner : attribute.g().node())
      for (const auto& name : inner.input())
        if (!name.empty() && (graph_.file->initializer(name) || graph_.constants->contains(name)))
          constant(name);
  }
}

// Pads of a band: what its receptive field lacks at the image's border, none at a cut. A pooling
// window that hangs over the bottom pad (ceil_mode) keeps the mode and the pad.
void Emitter::set_window(const Op& op, Rows out, onnx::NodeProto& node) {
  const Tensor& in = tensor(op.inputs[0].tensor);
  const Rows field = op.inputs[0].map.unclamped(out);
  const std::size_t n = in.shape.size() - 2;
  auto pads = attribute_ints(node, "pads");
  pads.resize(2 * n, 0);
  pads[0] = std::max(0, -field.lo);
  const bool overhangs = field.hi > in.rows + op.window.pad_bottom;
  pads[n] = overhangs ? op.window.pad_bottom : std::max(0, field.hi - in.rows);
  set_attribute(node, "pads", pads);
}

// Output rows [a, b) lie at [a + p - lo*s, ...) of what the band's input rows [lo, hi) make.
void Emitter::set_transposed_window(const Op& op, Rows out, onnx::NodeProto& node) {
  const Tensor& in = tensor(op.inputs[0].tensor);
  const Rows rows = op.inputs[0].map.needs(out, in.rows);
  const Window& w = op.window;
  const std::size_t n = in.shape.size() - 2;
  auto pads = attribute_ints(node, "pads"), extra = attribute_ints(node, "output_padding");
  pads.resize(2 * n, 0);
  extra.resize(n, 0);
  const std::int64_t made = std::int64_t{rows.count() - 1} * w.stride + w.reach + 1;
  const std::int64_t top = out.lo + w.pad_top - std::int64_t{rows.lo} * w.stride;
  const std::int64_t bottom = made - top - out.count();
  pads[0] = top;
  pads[n] = std::max<std::int64_t>(0, bottom);
  extra[0] = std::max<std::int64_t>(0, -bottom);
  set_attribute(node, "pads", pads);
  set_attribute(node, "output_padding", extra);
}

// A fully connected layer by output columns.
void Emitter::take_columns(const Op& op, Rows out, onnx::NodeProto& node) {
  const onnx::NodeProto& source = node_of(op);
  const int columns = tensor(op.outputs[0]).rows;
  const bool trans = attribute_int(source, "transB", 0) != 0;
  if (out == Rows{0, columns}) return;
  // bind_inputs added the whole weights; they are large, so take them back.
  const auto replace = [&](int i, int axis) {
    const std::string name = source.input(i);
    take_back(name);
    node.set_input(i, constant_rows(name, axis, 1, columns, 1, out));
  };
  replace(1, trans ? 0 : 1);
  if (source.input_size() > 2 && !source.input(2).empty()) {
    const Shape dims = constant_dims(source.input(2));
    if (!dims.empty() && dims.back() == columns) replace(2, static_cast<int>(dims.size()) - 1);
  }
}

// Weights of one row's product lie as it reads them, so that the engine need not turn and pack
// them: it would copy them for every session, in more time than many Runs take.
void Emitter::turn_weights(const Op& op, onnx::NodeProto& node) {
  if (attribute_int(node, "transB", 0) == 0 || !multiplies_one_row(graph_, op)) return;
  auto& list = *model_.mutable_graph()->mutable_initializer();
  const auto found = std::find_if(list.begin(), list.end(),
                                  [&](const auto& t) { return t.name() == node.input(1); });
  if (found == list.end() || found->dims_size() != 2 ||
      found->data_type() != onnx::TensorProto::FLOAT)
    return;
  const std::string name = node.input(1);
  const auto outside = std::find_if(weights_.begin(), weights_.end(),
                                    [&](const WeightView& w) { return w.name == name; });
  const auto bytes =
      outside != weights_.end() ? outside->bytes : std::as_bytes(std::span(found->raw_data()));
  const std::int64_t rows = found->dims(0), columns = found->dims(1);
  if (bytes.size() != static_cast<std::size_t>(rows * columns) * sizeof(float)) return;
  auto turned =
      transposed(bytes, static_cast<std::size_t>(rows), static_cast<std::size_t>(columns));
  take_back(name);
  node.set_input(1,
                 add_weights(name, {columns, rows}, onnx::TensorProto::FLOAT, std::move(turned)));
  remove_attribute(node, "transB");
}

// A slice of rows starts at the first row that the band has.
void Emitter::set_slice(const Op& op, onnx::NodeProto& node) {
  const Tensor& in = tensor(op.inputs[0].tensor);
  Shape starts = parameter_ints(node_of(op), 1, "starts"),
        ends = parameter_ints(node_of(op), 2, "ends"),
        axes = parameter_ints(node_of(op), 3, "axes");
  for (std::size_t i = axes.size(); i < starts.size(); ++i)
    axes.push_back(static_cast<std::int64_t>(i));
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const auto axis = axes[i] < 0 ? axes[i] + static_cast<std::int64_t>(in.shape.size()) : axes[i];
    if (axis != in.axis) continue;
    starts[i] = 0;
    ends[i] = kEnd;
  }
  if (graph_.opset < 10) {
    set_attribute(node, "starts", starts);
    set_attribute(node, "ends", ends);
    return;
  }
  node.set_input(1, add_ints(starts));
  node.set_input(2, add_ints(ends));
  if (node.input_size() > 3 && !node.input(3).empty()) node.set_input(3, add_ints(axes));
}

// Rows of padding only where the band touches the border; returns the rows that come out.
Rows Emitter::set_pad(const Op& op, Rows rows, onnx::NodeProto& node) {
  const Tensor& in = tensor(op.inputs[0].tensor);
  const std::size_t n = in.shape.size(), a = static_cast<std::size_t>(in.axis);
  Shape pads = parameter_ints(node_of(op), 1, "pads");
  pads[a] = rows.lo == 0 ? op.window.pad_top : 0;
  pads[a + n] = rows.hi == in.rows ? op.window.pad_bottom : 0;
  if (find_attribute(node, "pads"))
    set_attribute(node, "pads", pads);
  else
    node.set_input(1, add_ints(pads));
  const int lo = rows.lo == 0 ? 0 : rows.lo + op.window.pad_top;
  return {lo, lo + static_cast<int>(pads[a] + pads[a + n]) + rows.count()};
}

// Shapes, ranges and pads that are written into a layout operator. Returns the rows that it makes.
Rows Emitter::set_layout(const Op& op, Rows out, onnx::NodeProto& node) {
  const std::string& type = op.type;
  if (op.outputs.empty() || op.inputs.empty() || op.kind == OpKind::kHost) return out;
  const Tensor& to = tensor(op.outputs[0]);
  const Tensor& in = tensor(op.inputs[0].tensor);
  const Rows rows = op_needs(op, op.inputs[0], out);
  if (type == "Reshape") {
    if (graph_.opset < 5)
      set_attribute(node, "shape", to.band(out));
    else
      node.set_input(1, add_ints(to.band(out)));
    return out;
  }
  if (in.kind != TensorKind::kRows) return out;
  if (type == "Gather" && op.kind == OpKind::kReplicated && rows.count() == 1 && in.rows > 1) {
    const std::string name = fresh("index");
    *model_.mutable_graph()->add_initializer() =
        to_proto({onnx::TensorProto::INT64, constant_dims(node_of(op).input(1)), {0}}, name);
    node.set_input(1, name);
    return out;
  }
  if (type == "Slice") set_slice(op, node);
  if (type == "Pad" && op.kind == OpKind::kRows) return set_pad(op, rows, node);
  if (op.kind != OpKind::kRows) return out;
  const Rows made =
      op.window.factor > 1 ? Rows{rows.lo * op.window.factor, rows.hi * op.window.factor} : out;
  // The node's sizes are those of the whole image.
  if (type == "Resize" && node.input_size() > 3 && !node.input(3).empty())
    node.set_input(3, add_ints(to.band(made)));
  return made;
}

// Sums (means, maxima) over the band's own rows, in its slot.
void Emitter::add_reduce_partial(const Op& op) {
  const Tensor& x = tensor(op.inputs[0].tensor);
  const Tensor& slots = tensor(op.outputs[0]);
  const onnx::NodeProto& source = node_of(op);
  Shape axes = parameter_ints(source, 1, "axes");
  if (op.type.starts_with("Global"))
    for (int i = 2; i < static_cast<int>(x.shape.size()); ++i) axes.push_back(i);
  if (axes.empty()) {
    axes.resize(x.shape.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  const bool mean = op.type == "GlobalAveragePool" || op.type == "ReduceMean";
  const std::string type = op.type == "GlobalMaxPool" ? "ReduceMax" : mean ? "ReduceSum" : op.type;
  std::string sum = fresh(slots.name);
  add_reduce(type, value(op.inputs[0].tensor, work_.run_rows(op)), axes, true, sum);
  if (mean) {
    double count = 1;
    for (auto a : axes)
      count *= static_cast<double>(x.shape[static_cast<std::size_t>(
          a < 0 ? a + static_cast<std::int64_t>(x.shape.size()) : a)]);
    const std::string scaled = fresh(slots.name);
    add_node("Mul", {sum, add_floats({1.0 / count}, {1})}, scaled);
    sum = scaled;
  }
  names_[op.outputs[0]] = add_reshape(sum, slots.shape);
}

// x[:, own part of K] times those rows of the weights.
void Emitter::add_linear_partial(const Op& op) {
  const Tensor& x = tensor(op.inputs[0].tensor);
  const Rows rows = work_.run_rows(op);
  const onnx::NodeProto& source = node_of(op);
  const bool trans = attribute_int(source, "transB", 0) != 0;
  const auto product = [&](const std::string& of, Rows these) {
    onnx::NodeProto node = source;
    node.clear_input();
    node.add_input(of);
    node.add_input(constant_rows(source.input(1), trans ? 1 : 0, x.outer, x.rows, x.extent, these));
    remove_attribute(node, "beta");
    turn_weights(op, node);
    node.set_output(0, fresh(source.output(0)));
    const std::string name = node.output(0);
    node.set_name(name);  // names of nodes are to be different, too
    *model_.mutable_graph()->add_node() = std::move(node);
    return name;
  };
  const std::string whole = value(op.inputs[0].tensor, rows);
  std::string sum;
  if (multiplies_one_row(graph_, op) && op.weight_bytes / x.rows >= kRowOfWeights) {
    // Row by row: whatever rows another cut has, the weights of each are the same.
    const std::string turned = fresh(whole),
                      lines = add_reshape(whole, {x.outer, rows.count(), x.extent});
    set_attribute(add_node("Transpose", {lines}, turned), "perm",
                  std::vector<std::int64_t>{1, 0, 2});
    const std::string flat = add_reshape(turned, {rows.count(), std::int64_t{x.outer} * x.extent});
    std::vector<std::string> products;
    for (int r = rows.lo; r < rows.hi; ++r)
      products.push_back(product(add_slice(flat, 0, r - rows.lo, r - rows.lo + 1), {r, r + 1}));
    sum = fresh(source.output(0));
    add_node("Sum", products, sum);
  } else {
    sum = product(whole, rows);
  }
  names_[op.outputs[0]] = add_reshape(sum, tensor(op.outputs[0]).shape);
}

void Emitter::add_reduce_combine(const Op& op) {
  const onnx::NodeProto& source = node_of(op);
  const std::string type = op.type == "GlobalMaxPool"                         ? "ReduceMax"
                           : op.type == "ReduceMax" || op.type == "ReduceMin" ? op.type
                                                                              : "ReduceSum";
  const Tensor& to = tensor(op.outputs[0]);
  names_[op.outputs[0]] = to.name;
  std::string name = to.name;
  const bool bias = op.type == "Gemm" && source.input_size() > 2 && !source.input(2).empty();
  if (bias) name = fresh(name);
  add_reduce(type, names_.at(op.inputs[0].tensor), {0}, false, name);
  if (!bias) return;
  std::string c = constant(source.input(2));
  if (const float beta = attribute_float(source, "beta", 1.0F); beta != 1.0F) {
    const std::string scaled = fresh(c);
    add_node("Mul", {c, add_floats({beta}, {1})}, scaled);
    c = scaled;
  }
  add_node("Add", {name, c}, to.name);
}

// Slot: the mean of the band's own rows and the sum of squared deviations from it, [1, 2, lead].
void Emitter::add_statistics(const Op& op) {
  const Tensor& x = tensor(op.inputs[0].tensor);
  const Tensor& slots = tensor(op.outputs[0]);
  const Rows rows = work_.run_rows(op);
  const std::int64_t lead = slots.shape[2];
  const std::int64_t each = element_count(x.band(rows)) / lead;
  const std::string flat = add_reshape(value(op.inputs[0].tensor, rows), {lead, each});
  const std::string share = add_floats({1.0 / static_cast<double>(each)}, {1});
  const std::string sum = fresh("sum"), mean = fresh("mean"), off = fresh("off"),
                    square = fresh("square"), spread = fresh("spread"), both = fresh(slots.name);
  add_reduce("ReduceSum", flat, {1}, true, sum);
  add_node("Mul", {sum, share}, mean);
  add_node("Sub", {flat, mean}, off);
  add_node("Mul", {off, off}, square);
  add_reduce("ReduceSum", square, {1}, true, spread);
  set_attribute(
      add_node("Concat", {add_reshape(mean, {1, 1, lead}), add_reshape(spread, {1, 1, lead})},
               both),
      "axis", std::int64_t{1});
  names_[op.outputs[0]] = both;
}

// Chan, Golub, LeVeque: mean = sum w_i m_i; variance = sum M2_i / n + sum w_i (m_i - mean)^2.
void Emitter::add_normalise(const Op& op) {
  const Tensor& x = tensor(op.inputs[0].tensor);
  const Tensor& to = tensor(op.outputs[0]);
  const int slots_id = op.inputs[1].tensor;
  const Tensor& slots = tensor(slots_id);
  const std::int64_t lead = slots.shape[2];
  const double all = static_cast<double>(element_count(x.shape)) / static_cast<double>(lead);
  std::vector<double> weights;
  for (const Rows& r : work_.slots_of(slots_id)->slot_rows)
    weights.push_back(static_cast<double>(r.count()) / x.rows);
  const auto n = static_cast<std::int64_t>(weights.size());
  const std::string w = add_floats(weights, {n, 1, 1});
  const std::string means = add_slice(names_.at(slots_id), 1, 0, 1);
  const std::string spreads = add_slice(names_.at(slots_id), 1, 1, 2);
  const auto binary = [&](const char* type, const std::string& a, const std::string& b) {
    const std::string name = fresh(type);
    add_node(type, {a, b}, name);
    return name;
  };
  const auto total = [&](const std::string& of) {
    const std::string name = fresh("total");
    add_reduce("ReduceSum", of, {0}, true, name);
    return name;
  };
  const std::string mean = total(binary("Mul", means, w));
  const std::string off = binary("Sub", means, mean);
  const std::string between = total(binary("Mul", binary("Mul", off, off), w));
  const std::string within = binary("Mul", total(spreads), add_floats({1.0 / all}, {1}));
  const double epsilon = attribute_float(node_of(op), "epsilon", 1e-5F);
  const std::string variance =
      binary("Add", binary("Add", within, between), add_floats({epsilon}, {1}));
  const std::string deviation = fresh("deviation");
  add_node("Sqrt", {variance}, deviation);

  const Rows rows = work_.run_rows(op);
  const Shape band = to.band(rows);
  const std::string flat = add_reshape(value(op.inputs[0].tensor, rows), {lead, -1});
  const std::string normal = binary("Div", binary("Sub", flat, add_reshape(mean, {lead, 1})),
                                    add_reshape(deviation, {lead, 1}));
  std::string y = add_reshape(normal, band);
  const onnx::NodeProto& source = node_of(op);
  const auto parameter = [&](int i) {
    const std::string& name = source.input(i);
    const Shape dims = constant_dims(name);
    if (op.type == "LayerNormalization") {
      const int at = to.axis - static_cast<int>(to.shape.size()) + static_cast<int>(dims.size());
      if (at >= 0 && dims[static_cast<std::size_t>(at)] == to.rows && to.rows > 1)
        return constant_rows(name, at, 1, to.rows, 1, rows);
      return constant(name);
    }
    // One value a channel, or (group normalisation before opset 21) one a group.
    Shape spread(band.size(), 1);
    spread[1] = to.shape[1];
    if (element_count(dims) == to.shape[1]) return add_reshape(constant(name), spread);
    const std::int64_t groups = element_count(dims), per = to.shape[1] / groups;
    const std::string column = add_reshape(constant(name), {groups, 1});
    std::string tiled =
        binary("Mul", column,
               add_floats(std::vector<double>(static_cast<std::size_t>(per), 1.0), {1, per}));
    return add_reshape(tiled, spread);
  };
  if (source.input_size() > 1 && !source.input(1).empty()) y = binary("Mul", y, parameter(1));
  if (source.input_size() > 2 && !source.input(2).empty()) y = binary("Add", y, parameter(2));
  names_[op.outputs[0]] = y;
}

}  // namespace outboard::split
