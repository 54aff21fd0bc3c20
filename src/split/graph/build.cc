// SPDX-License-Identifier: Apache-2.0
// From an ONNX model to the graph that is cut: folds what computes shapes, asks the row rules about
// every node, turns divided reductions into a partial and a combining operator, and groups
// operators into units. A unit is a depth: an operator that needs rows of another band (a halo, all
// rows, partial sums) sits one unit behind the operator that makes them, every other one in its
// producer's unit. So parallel branches (Inception, PAF stages) exchange their halos at the same
// time.
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <limits>
#include <set>

#include "base/limits.h"
#include "split/graph/attributes.h"
#include "split/graph/constants.h"
#include "split/graph/graph.h"
#include "split/graph/rules.h"

namespace outboard::split {
namespace {

// Of a tensor whose shape depends on data.
const Shape kUnknownShape = {-1};

class Builder {
 public:
  Builder(std::shared_ptr<const OnnxFile> file, const GraphOptions& options) : options_(options) {
    graph_.file = std::move(file);
    for (const auto& opset : graph_.file->model().opset_import())
      if (opset.domain().empty()) graph_.opset = opset.version();
  }

  Result<Graph> build() {
    OB_CHECK_OK(add_inputs());
    load_parameters();
    for (const auto& node : graph_.file->model().graph().node()) OB_CHECK_OK(add_node(node));
    for (const auto& output : graph_.file->model().graph().output()) {
      const auto it = by_name_.find(output.name());
      if (it == by_name_.end())
        return error(ErrorKind::kInvalid, "the model's output ({}) is not computed from its inputs",
                     output.name());
      graph_.tensors[static_cast<std::size_t>(it->second)].is_output = true;
      graph_.outputs.push_back(it->second);
    }
    mark_fused();
    sort_into_units();
    graph_.nodes = std::make_shared<const std::vector<onnx::NodeProto>>(std::move(nodes_));
    graph_.constants =
        std::make_shared<const std::map<std::string, ConstValue>>(std::move(constants_));
    return std::move(graph_);
  }

 private:
  Result<void> add_inputs();
  void load_parameters();
  Result<void> add_node(const onnx::NodeProto& original);
  bool fold_node(const onnx::NodeProto& node);
  Operand operand(const std::string& name) const;
  Site site_of(const onnx::NodeProto& node) const;
  void engine_shapes(const onnx::NodeProto& node, Rule& rule) const;
  void add_ops(const onnx::NodeProto& node, const Site& site, Rule& rule);
  int add_tensor(const std::string& name, const Shape& shape, int type, const Rule& rule);
  void set_rows(Tensor& t, int axis, int outer, int extent) const;
  void mark_fused();
  void sort_into_units();
  Op base_op(const onnx::NodeProto& node, const Site& site, const Rule& rule) const;
  void add_captured(const onnx::GraphProto& inner, Op& op) const;
  void finish_op(Op op, const Rule& rule, int run_rows, double traffic_bytes);

  const GraphOptions& options_;
  Graph graph_;
  std::vector<onnx::NodeProto> nodes_;
  std::map<std::string, ConstValue> constants_;
  std::map<std::string, int> by_name_;
};

Shape declared_shape(const onnx::ValueInfoProto& info) {
  Shape out;
  for (const auto& d : info.type().tensor_type().shape().dim())
    out.push_back(d.has_dim_value() ? d.dim_value() : -1);
  return out;
}

// Where an input's rows are: H of an image, the tokens of a sequence.
int input_axis(const Shape& shape) {
  if (shape.size() >= 4) return 2;
  if (shape.size() >= 2) return 1;
  return -1;
}

void Builder::set_rows(Tensor& t, int axis, int outer, int extent) const {
  const std::int64_t bytes =
      std::max<std::int64_t>(0, element_count(t.shape)) * element_size_bytes(t.element_type);
  std::int64_t n = 1;
  if (axis >= 0 && outer > 0 && extent > 0)
    n = t.shape[static_cast<std::size_t>(axis)] / (std::int64_t{outer} * extent);
  if (n > std::numeric_limits<int>::max()) n = 1;
  t.kind = axis < 0 || n < 2 ? TensorKind::kWhole : TensorKind::kRows;
  const bool rows = t.kind == TensorKind::kRows;
  t.axis = rows ? axis : -1;
  t.outer = rows ? outer : 1;
  t.extent = rows ? extent : 1;
  t.rows = rows ? static_cast<int>(n) : 1;
  t.row_bytes = bytes / t.rows;
}

// Shapes, axes, scales and the like, so that rules see their values.
void Builder::load_parameters() {
  constexpr std::int64_t kMaxParameter_elements = 64;
  for (const auto& tensor : graph_.file->model().graph().initializer()) {
    if (element_count({tensor.dims().begin(), tensor.dims().end()}) > kMaxParameter_elements)
      continue;
    if (auto v = const_value(tensor, graph_.file->raw(tensor.name())))
      constants_[tensor.name()] = std::move(*v);
  }
}

Result<void> Builder::add_inputs() {
  for (const auto& input : graph_.file->model().graph().input()) {
    if (graph_.file->initializer(input.name())) continue;
    Tensor t;
    t.name = input.name();
    const auto given = options_.input_shapes.find(t.name);
    const auto inferred = options_.shapes.find(t.name);
    t.shape = given != options_.input_shapes.end() ? given->second
              : inferred != options_.shapes.end()  ? inferred->second
                                                   : declared_shape(input);
    t.element_type = input.type().tensor_type().elem_type();
    // A free batch dimension is one image.
    if (!t.shape.empty() && t.shape[0] < 0) t.shape[0] = 1;
    for (auto d : t.shape)
      if (d <= 0)
        return error(
            ErrorKind::kInvalid,
            "the shape of the model's input ({}) is not fixed; give its dimensions, for example "
            "--shape {}=1,3,224,224",
            t.name, t.name);
    t.host_owned = true;
    set_rows(t, input_axis(t.shape), 1, 1);
    by_name_[t.name] = static_cast<int>(graph_.tensors.size());
    graph_.inputs.push_back(by_name_[t.name]);
    graph_.tensors.push_back(std::move(t));
  }
  if (graph_.inputs.empty()) return error(ErrorKind::kInvalid, "the model has no inputs");
  return {};
}

Operand Builder::operand(const std::string& name) const {
  Operand o;
  if (name.empty()) return o;
  o.present = true;
  if (const auto it = by_name_.find(name); it != by_name_.end()) {
    o.tensor = &graph_.tensors[static_cast<std::size_t>(it->second)];
    o.shape = o.tensor->shape;
    o.element_type = o.tensor->element_type;
  } else if (const auto c = constants_.find(name); c != constants_.end()) {
    o.constant = true;
    o.value = &c->second;
    o.shape = c->second.dims;
    o.element_type = c->second.element_type;
  } else if (const auto* init = graph_.file->initializer(name)) {
    o.constant = true;
    o.shape.assign(init->dims().begin(), init->dims().end());
    o.element_type = init->data_type();
  } else {
    o.present = false;
  }
  return o;
}

Site Builder::site_of(const onnx::NodeProto& node) const {
  Site site{node, {}, graph_.opset};
  for (const auto& name : node.input()) site.in.push_back(operand(name));
  return site;
}

// Keeps the result of a node that is known beforehand; true when it is.
bool Builder::fold_node(const onnx::NodeProto& node) {
  if (node.output_size() == 0) return false;
  std::optional<ConstValue> value;
  if (node.op_type() == "Constant") {
    if (const auto* a = find_attribute(node, "value"))
      value = const_value(a->t(), std::as_bytes(std::span(a->t().raw_data())));
    if (const auto* a = find_attribute(node, "value_float"))
      value = ConstValue{onnx::TensorProto::FLOAT, {}, {a->f()}};
    if (const auto* a = find_attribute(node, "value_int"))
      value = ConstValue{onnx::TensorProto::INT64, {}, {static_cast<double>(a->i())}};
    if (const auto* a = find_attribute(node, "value_ints"))
      value = ConstValue{
          onnx::TensorProto::INT64, {a->ints_size()}, {a->ints().begin(), a->ints().end()}};
    if (const auto* a = find_attribute(node, "value_floats"))
      value = ConstValue{
          onnx::TensorProto::FLOAT, {a->floats_size()}, {a->floats().begin(), a->floats().end()}};
  } else if (node.op_type() == "Shape") {
    const Operand o = operand(node.input(0));
    if (o.present && std::all_of(o.shape.begin(), o.shape.end(), [](auto d) { return d > 0; }))
      value = ConstValue{onnx::TensorProto::INT64, {o.rank()}, {o.shape.begin(), o.shape.end()}};
  } else {
    std::vector<const ConstValue*> in;
    for (const auto& name : node.input()) {
      auto it = constants_.find(name);
      if (it == constants_.end() && !name.empty()) {
        const auto* init = graph_.file->initializer(name);
        auto small = init ? const_value(*init, graph_.file->raw(name)) : std::nullopt;
        if (!small) return false;
        it = constants_.emplace(name, std::move(*small)).first;
      }
      in.push_back(it == constants_.end() ? nullptr : &it->second);
    }
    if (!in.empty()) value = fold(node, in);
  }
  if (!value) return false;
  constants_[node.output(0)] = std::move(*value);
  return true;
}

// The engine's shapes win; where they contradict the rule, the node is not understood.
void Builder::engine_shapes(const onnx::NodeProto& node, Rule& rule) const {
  rule.shapes.resize(static_cast<std::size_t>(node.output_size()), kUnknownShape);
  for (int i = 0; i < node.output_size(); ++i) {
    auto& shape = rule.shapes[static_cast<std::size_t>(i)];
    const auto it = options_.shapes.find(node.output(i));
    if (it == options_.shapes.end() || it->second == shape) continue;
    if (rule.kind != OpKind::kHost) {
      auto shapes = rule.shapes;
      rule = host_rule("its output shape differs from what the engine infers");
      rule.shapes = std::move(shapes);
    }
    rule.shapes[static_cast<std::size_t>(i)] = it->second;
  }
}

int Builder::add_tensor(const std::string& name, const Shape& shape, int type, const Rule& rule) {
  Tensor t;
  t.name = name;
  t.shape = shape;
  t.element_type = type;
  t.producer = static_cast<int>(graph_.ops.size());
  t.host_owned = rule.kind == OpKind::kHost;
  const bool known = std::all_of(shape.begin(), shape.end(), [](auto d) { return d > 0; });
  const bool restart = t.host_owned && shape.size() >= 4 && known;
  set_rows(t,
           restart                      ? input_axis(shape)
           : rule.kind == OpKind::kRows ? rule.axis
                                        : -1,
           restart ? 1 : rule.outer, restart ? 1 : rule.extent);
  const int id = static_cast<int>(graph_.tensors.size());
  graph_.tensors.push_back(std::move(t));
  by_name_[name] = id;
  return id;
}

// The tensors of this graph that the sub-graphs of an If or Loop read.
void Builder::add_captured(const onnx::GraphProto& inner, Op& op) const {
  for (const auto& node : inner.node()) {
    for (const auto& name : node.input())
      if (const auto it = by_name_.find(name); it != by_name_.end())
        op.inputs.push_back(
            {it->second, RowMap::whole(graph_.tensors[static_cast<std::size_t>(it->second)].rows)});
    for (const auto& attribute : node.attribute())
      if (attribute.has_g()) add_captured(attribute.g(), op);
  }
}

Op Builder::base_op(const onnx::NodeProto& node, const Site& site, const Rule& rule) const {
  Op op;
  op.node = static_cast<int>(nodes_.size());
  op.name = node.name().empty() ? node.op_type() + " -> " + node.output(0) : node.name();
  op.type = node.op_type();
  op.kind = rule.kind;
  op.window = rule.window;
  op.reason = rule.reason;
  op.own_unit = rule.own_unit;
  for (std::size_t i = 0; i < site.in.size(); ++i) {
    const Operand& o = site.in[i];
    if (!o.tensor) continue;
    RowMap map = i < rule.maps.size() ? rule.maps[i] : RowMap{};
    if (rule.kind == OpKind::kHost || (rule.kind == OpKind::kReplicated && !map.fixed))
      map = RowMap::whole(o.tensor->rows);
    if (o.tensor->kind == TensorKind::kWhole) map = RowMap::whole(1);
    op.inputs.push_back({by_name_.at(o.tensor->name), map});
  }
  for (const auto& attribute : node.attribute())
    if (attribute.has_g()) add_captured(attribute.g(), op);
  return op;
}

// Shares out work and weights over the rows that the operator runs over.
void Builder::finish_op(Op op, const Rule& rule, int run_rows, double traffic_bytes) {
  const bool rows = run_rows > 0;
  const double n = rows ? run_rows : 1;
  op.flops_per_row = rows ? rule.flops / n : 0;
  op.fixed_flops = rows ? 0 : rule.flops;
  op.weight_bytes = rule.weight_bytes;
  op.weights_by_row = rule.weights_by_row && rows;
  op.bytes_per_row = rows ? traffic_bytes / n : 0;
  op.fixed_bytes = rows ? 0 : traffic_bytes;
  if (op.weights_by_row)
    op.bytes_per_row += rule.weight_bytes / n;
  else
    op.fixed_bytes += rule.weight_bytes;
  graph_.ops.push_back(std::move(op));
}

void Builder::add_ops(const onnx::NodeProto& node, const Site& site, Rule& rule) {
  const auto type_of = [&](std::size_t i) {
    if (i < rule.types.size()) return rule.types[i];
    for (const auto& o : site.in)
      if (o.tensor) return o.element_type;
    return site.in.empty() ? 1 : site.in[0].element_type;
  };
  double traffic = 0;
  for (const auto& o : site.in)
    if (o.tensor) traffic += o.bytes();
  for (std::size_t i = 0; i < rule.shapes.size(); ++i)
    traffic += static_cast<double>(element_count(rule.shapes[i]) * element_size_bytes(type_of(i)));
  if (rule.pointwise && rule.flops == 0) traffic = 0;  // a reshape moves nothing

  Op op = base_op(node, site, rule);
  if (rule.division != Division::kNone) {
    Op partial = op;
    partial.kind = OpKind::kPartial;
    partial.phase = Phase::kPartial;
    partial.inputs = {op.inputs[0]};
    const Tensor& x = graph_.tensors[static_cast<std::size_t>(op.inputs[0].tensor)];
    const int rows = x.rows;
    Tensor slots;
    slots.name = node.output(0) + "/partial";
    slots.shape = rule.slot;
    slots.element_type = x.element_type;
    slots.kind = TensorKind::kSlots;
    slots.axis = 0;
    slots.row_bytes = element_count(rule.slot) * element_size_bytes(x.element_type);
    slots.producer = static_cast<int>(graph_.ops.size());
    const int slots_id = static_cast<int>(graph_.tensors.size());
    graph_.tensors.push_back(slots);
    partial.outputs = {slots_id};
    finish_op(partial, rule, rows, traffic);
    op.phase = Phase::kCombine;
    op.own_unit = false;
    Rule combine = rule;
    combine.weight_bytes = 0;
    combine.weights_by_row = false;
    if (rule.division == Division::kReduce) {
      combine.kind = op.kind = OpKind::kReplicated;
      combine.flops = 0;
      op.inputs = {{slots_id, RowMap::whole(0)}};
    } else {
      op.inputs.push_back({slots_id, RowMap::whole(0)});
    }
    op.outputs = {add_tensor(node.output(0), rule.shapes[0], type_of(0), combine)};
    finish_op(op, combine, rule.division == Division::kReduce ? 0 : rows,
              rule.division == Division::kReduce ? 0 : traffic);
    return;
  }
  int run_rows = 0;
  for (std::size_t i = 0; i < rule.shapes.size(); ++i) {
    const std::string& name = node.output(static_cast<int>(i));
    if (name.empty()) continue;
    const int id = add_tensor(name, rule.shapes[i], type_of(i), rule);
    op.outputs.push_back(id);
    const Tensor& t = graph_.tensors[static_cast<std::size_t>(id)];
    if (rule.kind == OpKind::kRows && t.kind == TensorKind::kRows)
      run_rows = std::max(run_rows, t.rows);
  }
  if (op.kind == OpKind::kRows && run_rows == 0) {  // a single row is not divided
    op.kind = OpKind::kReplicated;
    for (auto& in : op.inputs) {
      const Tensor& t = graph_.tensors[static_cast<std::size_t>(in.tensor)];
      in.map = RowMap::whole(t.rows);
    }
  }
  op.fused = rule.pointwise && rule.flops == 0;
  finish_op(op, rule, op.kind == OpKind::kRows ? run_rows : 0, traffic);
}

Result<void> Builder::add_node(const onnx::NodeProto& original) {
  if (fold_node(original)) return {};
  onnx::NodeProto node = original;
  Site site = site_of(node);
  for (int i = 0; i < node.input_size(); ++i)
    if (!node.input(i).empty() && !site.in[static_cast<std::size_t>(i)].present)
      return error(ErrorKind::kInvalid,
                   "node ({}) uses ({}), which is computed neither before it nor a constant",
                   node.name(), node.input(i));
  const bool spatial = !site.in.empty() && site.in[0].tensor;
  if (spatial) make_pads_explicit(node, site.in[0].shape, site.has(1) ? site.in[1].shape : Shape{});
  Rule rule = node.domain().empty() || node.domain() == "ai.onnx"
                  ? rule_of(site)
                  : host_rule("its domain (" + node.domain() + ") is not ONNX's own");
  engine_shapes(node, rule);
  for (const auto& s : rule.shapes)
    if (std::any_of(s.begin(), s.end(), [](auto d) { return d <= 0; }) &&
        rule.kind != OpKind::kHost) {
      auto shapes = rule.shapes;
      rule = host_rule("its output shape depends on data");
      rule.shapes = std::move(shapes);
    }
  add_ops(node, site, rule);
  nodes_.push_back(std::move(node));
  return {};
}

// What runs inside its producer's kernel costs nothing: activations and batch normalisation behind
// a convolution or matrix product whose result nothing else reads.
void Builder::mark_fused() {
  for (std::size_t i = 0; i < graph_.ops.size(); ++i)
    for (const auto& in : graph_.ops[i].inputs) {
      auto& c = graph_.tensors[static_cast<std::size_t>(in.tensor)].consumers;
      if (c.empty() || c.back() != static_cast<int>(i)) c.push_back(static_cast<int>(i));
    }
  static const std::set<std::string> kFusable = {
      "Relu", "LeakyRelu",   "PRelu",     "Clip",    "Sigmoid", "BatchNormalization",
      "Tanh", "HardSigmoid", "HardSwish", "Dropout", "Identity"};
  for (auto& op : graph_.ops) {
    if (!kFusable.contains(op.type) || op.inputs.size() != 1 || op.kind == OpKind::kHost) continue;
    const Tensor& in = graph_.tensors[static_cast<std::size_t>(op.inputs[0].tensor)];
    if (in.producer < 0 || in.consumers.size() != 1 || in.is_output) continue;
    const Op& before = graph_.ops[static_cast<std::size_t>(in.producer)];
    op.fused = op.fused || before.type == "Conv" || before.type == "Gemm" ||
               before.type == "MatMul" || before.type == "ConvTranspose" ||
               (before.fused && before.type != "Reshape");
  }
}

bool needs_border(const Graph& g, const Op& op, const Input& in) {
  const Tensor& t = g.tensors[static_cast<std::size_t>(in.tensor)];
  if (t.producer < 0) return true;
  if (t.host_owned || op.own_unit || op.kind == OpKind::kHost) return true;
  if (t.kind == TensorKind::kWhole) return false;
  return t.kind == TensorKind::kSlots || !in.map.is_identity();
}

// Not even a repeated computation can replace the exchange in front of it.
bool needs_hard_border(const Graph& g, const Op& op, const Input& in) {
  const Tensor& t = g.tensors[static_cast<std::size_t>(in.tensor)];
  if (t.producer < 0) return false;
  return t.kind == TensorKind::kSlots || t.host_owned || op.kind == OpKind::kHost || op.own_unit ||
         (t.kind == TensorKind::kRows && in.map.fixed);
}

void Builder::sort_into_units() {
  auto& ops = graph_.ops;
  std::vector<int> order(ops.size());
  for (std::size_t i = 0; i < ops.size(); ++i) {
    order[i] = static_cast<int>(i);
    int unit = 0;
    for (const auto& in : ops[i].inputs) {
      const int producer = graph_.tensors[static_cast<std::size_t>(in.tensor)].producer;
      if (producer < 0) continue;
      unit = std::max(unit, ops[static_cast<std::size_t>(producer)].unit +
                                (needs_border(graph_, ops[i], in) ? 1 : 0));
    }
    ops[i].unit = unit;
  }
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const int ua = ops[static_cast<std::size_t>(a)].unit,
              ub = ops[static_cast<std::size_t>(b)].unit;
    return ua != ub ? ua < ub : a < b;
  });
  std::vector<int> place(ops.size());
  std::vector<Op> sorted;
  for (std::size_t i = 0; i < order.size(); ++i) {
    place[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
    sorted.push_back(std::move(ops[static_cast<std::size_t>(order[i])]));
  }
  ops = std::move(sorted);
  for (auto& t : graph_.tensors) {
    if (t.producer >= 0) t.producer = place[static_cast<std::size_t>(t.producer)];
    for (auto& c : t.consumers) c = place[static_cast<std::size_t>(c)];
    std::sort(t.consumers.begin(), t.consumers.end());
  }
  for (int i = 0; i < static_cast<int>(ops.size()); ++i) {
    const Op& op = ops[static_cast<std::size_t>(i)];
    if (graph_.units.size() <= static_cast<std::size_t>(op.unit))
      graph_.units.push_back({i, i, "", i, false});
    Unit& unit = graph_.units.back();
    unit.end_op = i + 1;
    const auto work = [&](const Op& o) {
      const int rows =
          o.outputs.empty() ? 1 : graph_.tensors[static_cast<std::size_t>(o.outputs[0])].rows;
      return o.fused ? 0.0 : o.flops_per_row * rows + o.fixed_flops + 1;
    };
    if (work(op) > work(ops[static_cast<std::size_t>(unit.heaviest_op)])) unit.heaviest_op = i;
    for (const auto& in : op.inputs) unit.hard_border |= needs_hard_border(graph_, op, in);
  }
  // The halves of a divided reduction have one name, and nothing else in common: profiles go by it.
  for (auto& unit : graph_.units) {
    const Op& op = ops[static_cast<std::size_t>(unit.heaviest_op)];
    unit.name = op.phase == Phase::kCombine ? op.name + "/combined" : op.name;
  }
}

// Dimensions come from the model, or from the host of a split inference; what follows adds sizes up
// and reserves memory by them. Dimensions that depend on data are not known yet.
Result<void> check_sizes(const Graph& graph) {
  for (const Tensor& t : graph.tensors) {
    const bool known = std::all_of(t.shape.begin(), t.shape.end(), [](auto d) { return d >= 0; });
    if (known && element_count(t.shape) * element_size_bytes(t.element_type) >
                     static_cast<std::int64_t>(limits::kTensorBytes))
      return error(ErrorKind::kInvalid, "the tensor ({}) has more than {} bytes", t.name,
                   limits::kTensorBytes);
  }
  return {};
}

}  // namespace

double Operand::bytes() const {
  return static_cast<double>(element_count(shape)) * element_size_bytes(element_type);
}

Rule host_rule(std::string reason) {
  Rule rule;
  rule.kind = OpKind::kHost;
  rule.reason = std::move(reason);
  return rule;
}

Rule rule_of(const Site& site) {
  for (const auto& o : site.in)
    if (o.tensor && std::any_of(o.shape.begin(), o.shape.end(), [](auto d) { return d <= 0; }))
      return host_rule("the shape of its input depends on data");
  if (site.in.empty()) return host_rule("it has no inputs");
  if (!site.in[0].present) return host_rule("its first input is missing");
  const std::string& op = site.node.op_type();
  for (const auto* table :
       {&spatial_rules(), &pointwise_rules(), &layout_rules(), &reduction_rules()})
    if (const auto it = table->find(op); it != table->end()) return it->second(site);
  return host_rule("operator " + op + " has no row rule");
}

Shape Tensor::band(Rows r) const {
  Shape out = shape;
  if (kind == TensorKind::kSlots) out[0] = r.count();
  if (kind == TensorKind::kRows)
    out[static_cast<std::size_t>(axis)] = std::int64_t{outer} * r.count() * extent;
  return out;
}

double Graph::flops() const {
  double sum = 0;
  for (const auto& op : ops) {
    const auto tensor = op.kind == OpKind::kPartial ? op.inputs[0].tensor
                        : op.outputs.empty()        ? -1
                                                    : op.outputs[0];
    const int rows = tensor < 0 ? 1 : tensors[static_cast<std::size_t>(tensor)].rows;
    sum += op.flops_per_row * rows + op.fixed_flops;
  }
  return sum;
}

double Graph::weight_bytes() const {
  double sum = 0;
  for (const auto& op : ops) sum += op.weight_bytes;
  return sum;
}

int Graph::find(const std::string& name) const {
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].name == name) return static_cast<int>(i);
  return -1;
}

std::span<const Op> Graph::ops_of(int first_unit, int end_unit) const {
  const auto first = static_cast<std::size_t>(units[static_cast<std::size_t>(first_unit)].first_op);
  const auto end = static_cast<std::size_t>(units[static_cast<std::size_t>(end_unit) - 1].end_op);
  return std::span(ops).subspan(first, end - first);
}

const Tensor& Graph::main_output(const Unit& unit) const {
  const Op& op = ops[static_cast<std::size_t>(unit.heaviest_op)];
  return tensors[static_cast<std::size_t>(op.kind == OpKind::kPartial ? op.inputs[0].tensor
                                                                      : op.outputs[0])];
}

Result<Graph> build_graph(std::shared_ptr<const OnnxFile> file, const GraphOptions& options) {
  OB_TRY(Graph graph, Builder(std::move(file), options).build());
  OB_CHECK_OK(check_sizes(graph));
  return graph;
}

}  // namespace outboard::split
