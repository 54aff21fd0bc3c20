// SPDX-License-Identifier: Apache-2.0
#include "split/graph/emit.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "split/graph/attributes.h"
#include "split/graph/constants.h"
#include "split/graph/emitter.h"

namespace outboard::split {
namespace {

void describe(onnx::ValueInfoProto& info, const std::string& name, int type, const Shape& shape) {
  info.set_name(name);
  auto& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  for (auto d : shape)
    if (d <= 0) return;  // not known
  tensor.mutable_shape();
  for (auto d : shape) tensor.mutable_shape()->add_dim()->set_dim_value(d);
}

}  // namespace

Emitter::Emitter(const BandWork& work, const EmitOptions& options)
    : work_(work), graph_(work.graph()), options_(options) {
  const auto& source = graph_.file->model();
  model_.set_ir_version(source.ir_version());
  *model_.mutable_opset_import() = source.opset_import();
  *model_.mutable_functions() = source.functions();
  model_.set_producer_name("outboard");
  model_.mutable_graph()->set_name("band");
}

void Emitter::name_input(int tensor) {
  const std::string& name = graph_.tensors[static_cast<std::size_t>(tensor)].name;
  names_[tensor] = has_shim(tensor) ? name + "/shim" : name;
  if (has_shim(tensor)) add_shim(name, names_[tensor]);
}

void Emitter::add_shim(const std::string& from, const std::string& to) {
  set_attribute(add_node("MaxPool", {from}, to), "kernel_shape", std::vector<std::int64_t>{1, 1});
}

onnx::NodeProto& Emitter::add_node(const std::string& type, const std::vector<std::string>& inputs,
                                   const std::string& output) {
  auto& node = *model_.mutable_graph()->add_node();
  node.set_op_type(type);
  for (const auto& in : inputs) node.add_input(in);
  node.add_output(output);
  return node;
}

std::string Emitter::fresh(const std::string& hint) {
  return hint + "/" + std::to_string(++counter_);
}

std::string Emitter::add_ints(std::vector<std::int64_t> values) {
  ConstValue c{onnx::TensorProto::INT64, {static_cast<std::int64_t>(values.size())}, {}};
  c.values.assign(values.begin(), values.end());
  const std::string name = fresh("ints");
  *model_.mutable_graph()->add_initializer() = to_proto(c, name);
  return name;
}

std::string Emitter::add_floats(std::vector<double> values, Shape dims) {
  const std::string name = fresh("floats");
  *model_.mutable_graph()->add_initializer() =
      to_proto({onnx::TensorProto::FLOAT, std::move(dims), std::move(values)}, name);
  return name;
}

std::string Emitter::add_slice(const std::string& from, std::int64_t axis, std::int64_t lo,
                               std::int64_t hi) {
  const std::string name = fresh(from);
  if (graph_.opset < 10) {
    auto& node = add_node("Slice", {from}, name);
    set_attribute(node, "starts", std::vector{lo});
    set_attribute(node, "ends", std::vector{hi});
    set_attribute(node, "axes", std::vector{axis});
  } else {
    add_node("Slice", {from, add_ints({lo}), add_ints({hi}), add_ints({axis})}, name);
  }
  return name;
}

std::string Emitter::add_reshape(const std::string& from, const Shape& shape) {
  const std::string name = fresh(from);
  if (graph_.opset < 5)
    set_attribute(add_node("Reshape", {from}, name), "shape", shape);
  else
    add_node("Reshape", {from, add_ints(shape)}, name);
  return name;
}

void Emitter::add_reduce(const std::string& type, const std::string& from, const Shape& axes,
                         bool keep, const std::string& to) {
  const bool as_input = graph_.opset >= (type == "ReduceSum" ? 13 : 18);
  std::vector<std::string> inputs = {from};
  if (as_input) inputs.push_back(add_ints(axes));
  auto& node = add_node(type, inputs, to);
  if (!as_input) set_attribute(node, "axes", axes);
  set_attribute(node, "keepdims", std::int64_t{keep});
}

// A tensor's value for exactly these rows, cut out of what the band holds of it.
std::string Emitter::value(int tensor, Rows rows) {
  const Tensor& t = graph_.tensors[static_cast<std::size_t>(tensor)];
  const Rows have = work_.need(tensor);
  const std::string& name = names_.at(tensor);
  if (t.kind != TensorKind::kRows || rows == have || rows.empty()) return name;
  auto& cached = slices_[{tensor, rows.lo, rows.hi}];
  if (!cached.empty()) return cached;
  std::string from = name;
  const std::int64_t e = t.extent, lo = (rows.lo - have.lo) * e, hi = (rows.hi - have.lo) * e;
  if (t.outer == 1) {
    cached = add_slice(from, t.axis, lo, hi);
    if (!has_shim(tensor)) return cached;
    band_slices_.push_back({cached, tensor});
    add_shim(cached, cached + "/shim");
    return cached += "/shim";
  }
  // A flattened image: unfold, cut, fold again.
  Shape unfolded = t.band(have);
  const auto at = unfolded.begin() + t.axis;
  *at = std::int64_t{have.count()} * e;
  unfolded.insert(unfolded.begin() + t.axis, t.outer);
  from = add_slice(add_reshape(from, unfolded), t.axis + 1, lo, hi);
  return cached = add_reshape(from, t.band(rows));
}

Rows Emitter::op_needs(const Op& op, const Input& in, Rows out) const {
  const Tensor& t = graph_.tensors[static_cast<std::size_t>(in.tensor)];
  if (t.kind == TensorKind::kSlots) return work_.need(in.tensor);
  if (op.kind == OpKind::kPartial) return out;
  return in.map.needs(out, t.rows);
}

// A constant as the model knows it, copied at most once.
std::string Emitter::constant(const std::string& name) {
  if (!constants_.insert(name).second) return name;
  auto& to = *model_.mutable_graph()->add_initializer();
  if (const auto it = graph_.constants->find(name); it != graph_.constants->end()) {
    to = to_proto(it->second, name);
    return name;
  }
  to = *graph_.file->initializer(name);
  const auto raw = graph_.file->raw(name);
  to.clear_external_data();
  to.clear_data_location();
  if (raw.empty()) return name;
  if (goes_outside(raw.size()))
    place_outside(to, {name, raw});
  else
    to.set_raw_data(raw.data(), raw.size());
  return name;
}

bool Emitter::goes_outside(std::size_t size_bytes) const {
  return options_.weights == Weights::kOutside && size_bytes >= kOutsideBytes;
}

void Emitter::place_outside(onnx::TensorProto& to, WeightView weight) {
  set_external(to, kOutsideLocation, weight.bytes.size());
  weights_.push_back(std::move(weight));
}

// Some rows of a constant whose dimension `axis` is outer x rows x extent.
std::string Emitter::constant_rows(const std::string& name, int axis, int outer, int rows,
                                   int extent, Rows take) {
  if (take == Rows{0, rows}) return constant(name);
  onnx::TensorProto from;
  std::span<const std::byte> raw = graph_.file->raw(name);
  if (const auto* init = graph_.file->initializer(name); init && !raw.empty()) {
    from = *init;
  } else {
    const auto small = graph_.constants->find(name);
    const auto value = small != graph_.constants->end()
                           ? std::optional<ConstValue>(small->second)
                           : const_value(*graph_.file->initializer(name), {});
    if (!value) return constant(name);  // of an odd type: the engine will refuse the model
    from = to_proto(*value, name);
    scratch_ = raw_values(from);
    raw = std::as_bytes(std::span(scratch_));
  }
  Shape dims(from.dims().begin(), from.dims().end());
  std::int64_t lead = outer, tail = std::int64_t{extent} * element_size_bytes(from.data_type());
  for (int i = 0; i < static_cast<int>(dims.size()); ++i) {
    if (i < axis) lead *= dims[static_cast<std::size_t>(i)];
    if (i > axis) tail *= dims[static_cast<std::size_t>(i)];
  }
  dims[static_cast<std::size_t>(axis)] = std::int64_t{outer} * take.count() * extent;
  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(lead * take.count() * tail));
  for (std::int64_t i = 0; i < lead; ++i) {
    const auto part = raw.subspan(static_cast<std::size_t>((i * rows + take.lo) * tail),
                                  static_cast<std::size_t>(take.count() * tail));
    bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
  }
  return add_weights(name, dims, from.data_type(), std::move(bytes));
}

// A constant that was made for the band, under a name of its own.
std::string Emitter::add_weights(const std::string& hint, const Shape& dims, int type,
                                 std::string bytes) {
  auto& to = *model_.mutable_graph()->add_initializer();
  to.set_name(fresh(hint));
  to.set_data_type(type);
  for (auto d : dims) to.add_dims(d);
  if (goes_outside(bytes.size())) {
    const auto made = std::make_shared<const std::string>(std::move(bytes));
    place_outside(to, {to.name(), std::as_bytes(std::span(*made)), made});
  } else {
    to.set_raw_data(std::move(bytes));
  }
  return to.name();
}

// A constant that is not to be read after all; one that an operator before reads stays.
void Emitter::take_back(const std::string& name) {
  for (const auto& node : model_.graph().node())
    if (std::find(node.input().begin(), node.input().end(), name) != node.input().end()) return;
  auto& list = *model_.mutable_graph()->mutable_initializer();
  for (int k = list.size() - 1; k >= 0; --k)
    if (list[k].name() == name) list.DeleteSubrange(k, 1);
  constants_.erase(name);
  std::erase_if(weights_, [&](const WeightView& w) { return w.name == name; });
}

Result<BandModel> Emitter::finish(std::span<const TensorRows> wanted) {
  BandModel out;
  for (const auto& in : work_.inputs()) {
    const Tensor& t = graph_.tensors[static_cast<std::size_t>(in.tensor)];
    out.inputs.push_back({t.name, in});
    describe(*model_.mutable_graph()->add_input(), t.name, t.element_type, t.band(in.rows));
  }
  for (const auto& w : wanted) {
    const Tensor& t = graph_.tensors[static_cast<std::size_t>(w.tensor)];
    if (!names_.contains(w.tensor))
      return error(ErrorKind::kInvalid, "the tensor ({}) is not made in these units", t.name);
    const std::string name = t.name + "/out/" + std::to_string(out.outputs.size());
    if (has_shim(w.tensor))
      add_shim(value(w.tensor, w.rows), name);
    else
      add_node("Identity", {value(w.tensor, w.rows)}, name);
    out.outputs.push_back({name, w});
    describe(*model_.mutable_graph()->add_output(), name, t.element_type, t.band(w.rows));
  }
  out.weights = std::move(weights_);
  out.slices = std::move(band_slices_);
  out.bytes = model_.SerializeAsString();
  return out;
}

Result<BandModel> emit_band(const Graph& graph, int first_unit, int end_unit,
                            std::span<const TensorRows> wanted, std::span<const SlotRows> slots,
                            const EmitOptions& options) {
  BandWork work(graph);
  work.run(first_unit, end_unit, wanted, slots);
  Emitter emitter(work, options);
  for (const auto& in : work.inputs()) emitter.name_input(in.tensor);
  for (const Op& op : graph.ops_of(first_unit, end_unit)) {
    bool used = false;
    for (int t : op.outputs) used |= !work.need(t).empty();
    if (used) emitter.add_op(op);
  }
  return emitter.finish(wanted);
}

bool is_linear(const Op& op) { return op.type == "Gemm" || op.type == "MatMul"; }

bool multiplies_one_row(const Graph& graph, const Op& op) {
  if (!is_linear(op) || op.inputs.size() != 1) return false;
  const Shape& left = graph.tensors[static_cast<std::size_t>(op.inputs[0].tensor)].shape;
  return !left.empty() && element_count(left) == left.back();
}

std::string shape_probe(const Graph& graph) {
  const auto& source = graph.file->model();
  onnx::ModelProto model;
  model.set_ir_version(source.ir_version());
  *model.mutable_opset_import() = source.opset_import();
  *model.mutable_functions() = source.functions();
  auto& to = *model.mutable_graph();
  to.set_name("shapes");
  *to.mutable_node() = source.graph().node();
  for (int t : graph.inputs) {
    const Tensor& in = graph.tensors[static_cast<std::size_t>(t)];
    describe(*to.add_input(), in.name, in.element_type, in.shape);
  }
  for (const auto& init : source.graph().initializer()) {
    const auto raw = graph.file->raw(init.name());
    if (raw.size() >= 1024) {
      describe(*to.add_input(), init.name(), init.data_type(),
               {init.dims().begin(), init.dims().end()});
    } else {
      auto& small = *to.add_initializer();
      small = init;
      small.clear_external_data();
      small.clear_data_location();
      if (!raw.empty()) small.set_raw_data(raw.data(), raw.size());
    }
  }
  for (const auto& t : graph.tensors) {
    if (t.producer < 0 || t.kind == TensorKind::kSlots) continue;
    auto& info = *to.add_output();
    info.set_name(t.name);
    info.mutable_type()->mutable_tensor_type()->set_elem_type(t.element_type);
  }
  return model.SerializeAsString();
}

std::string call_probe() {
  onnx::ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(13);
  auto& graph = *model.mutable_graph();
  graph.set_name("call");
  auto& node = *graph.add_node();
  node.set_op_type("Neg");
  node.add_input("x");
  node.add_output("y");
  describe(*graph.add_input(), "x", onnx::TensorProto::FLOAT, {1});
  describe(*graph.add_output(), "y", onnx::TensorProto::FLOAT, {1});
  return model.SerializeAsString();
}

}  // namespace outboard::split
