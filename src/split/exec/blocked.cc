// SPDX-License-Identifier: Apache-2.0
#include "split/exec/blocked.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "engine/optimiser.h"
#include "split/exec/optimised.h"
#include "split/graph/attributes.h"

namespace outboard::split::exec {
namespace {

constexpr const char* kDomain = "com.microsoft.nchwc";

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// Operators that the blocked layout passes through.
bool works_in_blocks(const std::string& type) {
  static const std::set<std::string> kTypes = {"Add",
                                               "AveragePool",
                                               "BatchNormalization",
                                               "Clip",
                                               "Concat",
                                               "Conv",
                                               "GlobalAveragePool",
                                               "HardSigmoid",
                                               "LeakyRelu",
                                               "MaxPool",
                                               "Mul",
                                               "Relu",
                                               "Sigmoid",
                                               "Sum",
                                               "Tanh"};
  return kTypes.contains(type);
}

void describe(onnx::ValueInfoProto& info, const std::string& name, const Shape& shape) {
  info.set_name(name);
  auto& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(onnx::TensorProto::FLOAT);
  for (auto d : shape) tensor.mutable_shape()->add_dim()->set_dim_value(d);
}

void add_domain(onnx::ModelProto& model) {
  for (const auto& known : model.opset_import())
    if (known.domain() == kDomain) return;
  auto& domain = *model.add_opset_import();
  domain.set_domain(kDomain);
  domain.set_version(1);
}

bool is_shim(const onnx::NodeProto& node) {
  if (node.op_type() != "MaxPool") return false;
  const auto kernel = attribute_ints(node, "kernel_shape");
  return !kernel.empty() &&
         std::all_of(kernel.begin(), kernel.end(), [](auto k) { return k == 1; });
}

bool is_reorder(const onnx::NodeProto* node, const char* type) {
  return node != nullptr && node->domain() == kDomain && node->op_type() == type;
}

// Takes the shims out of a model, in place.
class Stripper {
 public:
  Stripper(const Graph& graph, const BandModel& band, const std::vector<char>& blocked,
           int channels, onnx::ModelProto& model)
      : split_(graph), band_(band), blocked_(blocked), channels_(channels), model_(model) {}

  void run() {
    add_domain(model_);
    for (const auto& slice : band_.slices) {
      index();
      strip_slice(slice);
    }
    for (const auto& port : band_.inputs)
      if (blocked_[at(port.rows.tensor)]) {
        index();
        strip_input(port);
      }
    for (const auto& port : band_.outputs)
      if (blocked_[at(port.rows.tensor)]) {
        index();
        strip_output(port);
      }
    finish();
  }

 private:
  using Node = onnx::NodeProto;

  // What is left of the engine's nodes, and the new ones.
  template <typename Visit>
  void each(const Visit& visit) {
    for (Node& node : *model_.mutable_graph()->mutable_node())
      if (!gone_.contains(&node)) visit(node);
    for (Node& node : added_) visit(node);
  }
  void index() {
    makers_.clear();
    readers_.clear();
    each([&](Node& node) {
      for (const auto& in : node.input()) readers_[in].push_back(&node);
      for (const auto& out : node.output()) makers_[out] = &node;
    });
  }
  Node* maker(const std::string& value) const {
    const auto it = makers_.find(value);
    return it == makers_.end() ? nullptr : it->second;
  }
  Node* only_reader(const std::string& value) const {
    const auto it = readers_.find(value);
    return it == readers_.end() || it->second.size() != 1 ? nullptr : it->second[0];
  }
  void rename(const std::string& from, const std::string& to) {
    each([&](Node& node) {
      for (auto& in : *node.mutable_input())
        if (in == from) in = to;
    });
  }
  // In a list of their own, as adding one to the model may move the others.
  Node& add(const std::string& type, const std::vector<std::string>& inputs,
            const std::string& output) {
    Node& node = added_.emplace_back();
    node.set_op_type(type);
    for (const auto& in : inputs) node.add_input(in);
    node.add_output(output);
    return node;
  }
  std::string fresh() { return "unblocked/" + std::to_string(++counter_); }

  // input -> ReorderInput -> shim -> readers becomes input -> readers.
  void strip_input(const BandPort& port) {
    Node* const reorder = only_reader(port.name);
    Node* const shim =
        is_reorder(reorder, "ReorderInput") ? only_reader(reorder->output(0)) : nullptr;
    if (shim != nullptr && shim->domain() == kDomain && is_shim(*shim)) {
      gone_.insert({reorder, shim});
      rename(shim->output(0), port.name);
      return;
    }
    // The engine did something else: what it expects is made from what comes.
    const std::string plain = fresh();
    rename(port.name, plain);
    auto& back = add("ReorderOutput", {port.name}, plain);
    back.set_domain(kDomain);
    set_attribute(back, "channels", tensor(port).shape[1]);
  }

  // value -> shim -> ReorderOutput -> output becomes value -> output.
  void strip_output(const BandPort& port) {
    Node* const reorder = maker(port.name);
    Node* const shim = is_reorder(reorder, "ReorderOutput") ? maker(reorder->input(0)) : nullptr;
    const bool plain = shim == nullptr || shim->domain() != kDomain || !is_shim(*shim) ||
                       only_reader(shim->output(0)) == nullptr;
    if (plain) {
      const std::string made = fresh();
      each([&](Node& node) {
        for (auto& out : *node.mutable_output())
          if (out == port.name) out = made;
      });
      rename(port.name, made);
      add("ReorderInput", {made}, port.name).set_domain(kDomain);
      return;
    }
    const std::string from = shim->input(0);
    gone_.insert({reorder, shim});
    Node* const source = maker(from);
    const bool is_port = std::any_of(band_.outputs.begin(), band_.outputs.end(),
                                     [&](const BandPort& p) { return p.name == from; });
    if (source == nullptr || is_port) {  // an input of the band, or another output
      add("Identity", {from}, port.name);
      return;
    }
    for (auto& out : *source->mutable_output())
      if (out == from) out = port.name;
    rename(from, port.name);
  }

  // value -> ReorderOutput -> Slice -> ReorderInput -> shim becomes value -> Slice of whole rows of
  // all blocks.
  void strip_slice(const BandSlice& part) {
    Node* const slice = maker(part.value);
    Node* const out = slice == nullptr ? nullptr : maker(slice->input(0));
    Node* const in = only_reader(part.value);
    Node* const shim = is_reorder(in, "ReorderInput") ? only_reader(in->output(0)) : nullptr;
    if (!is_reorder(out, "ReorderOutput") || shim == nullptr || shim->domain() != kDomain ||
        !is_shim(*shim))
      return;
    const Shape& shape = split_.tensors[at(part.tensor)].shape;
    const std::string folded = fresh(), whole = fresh();
    reshape(out->input(0), {1, shape[1] / channels_, -1, shape[3] * channels_}, folded);
    Node& cut = added_.emplace_back(*slice);
    cut.set_input(0, folded);
    cut.set_output(0, whole);
    reshape(whole, {1, shape[1], -1, shape[3]}, shim->output(0));
    if (only_reader(out->output(0)) == slice) gone_.insert(out);
    gone_.insert({slice, in, shim});
  }

  void reshape(const std::string& from, const Shape& shape, const std::string& to) {
    const std::string name = fresh();
    auto& constant = *model_.mutable_graph()->add_initializer();
    constant.set_name(name);
    constant.set_data_type(onnx::TensorProto::INT64);
    constant.add_dims(static_cast<std::int64_t>(shape.size()));
    for (auto d : shape) constant.add_int64_data(d);
    add("Reshape", {from, name}, to);
  }

  const Tensor& tensor(const BandPort& port) const { return split_.tensors[at(port.rows.tensor)]; }

  // What the outputs need, in an order in which every value is made before it is read.
  void finish() {
    std::vector<Node> rest;
    each([&](Node& node) { rest.push_back(std::move(node)); });
    std::map<std::string, std::size_t> made_by;
    for (std::size_t i = 0; i < rest.size(); ++i)
      for (const auto& out : rest[i].output()) made_by[out] = i;
    std::vector<char> placed(rest.size(), 0);
    std::vector<std::size_t> order;
    const auto place = [&](auto&& self, const std::string& value) -> void {
      const auto it = made_by.find(value);
      if (it == made_by.end() || std::exchange(placed[it->second], 1)) return;
      for (const auto& in : rest[it->second].input()) self(self, in);
      order.push_back(it->second);
    };
    for (const auto& out : model_.graph().output()) place(place, out.name());
    auto& graph = *model_.mutable_graph();
    graph.clear_node();
    for (std::size_t i : order) *graph.add_node() = std::move(rest[i]);
    graph.clear_value_info();  // of values that may be gone
  }

  const Graph& split_;
  const BandModel& band_;
  const std::vector<char>& blocked_;
  const int channels_;
  onnx::ModelProto& model_;
  std::map<std::string, Node*> makers_;
  std::map<std::string, std::vector<Node*>> readers_;
  std::set<const Node*> gone_;
  std::deque<Node> added_;
  int counter_ = 0;
};

// One image of 64 channels and two pixels, its values their places: in blocks of b the second
// pixel's first channel stands at place b.
Result<int> find_block(engine::Engine& engine) {
  constexpr int kChannels = 64;
  onnx::ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(13);
  add_domain(model);
  auto& graph = *model.mutable_graph();
  graph.set_name("blocks");
  auto& node = *graph.add_node();
  node.set_domain(kDomain);
  node.set_op_type("ReorderInput");
  node.add_input("x");
  node.add_output("y");
  describe(*graph.add_input(), "x", {1, kChannels, 1, 2});
  describe(*graph.add_output(), "y", {1, kChannels, 1, 2});
  const std::string bytes = model.SerializeAsString();
  engine::OpenOptions open;
  open.graph_optimization_level = 0;
  open.intra_op_threads = 1;
  OB_TRY(const auto session, engine.open_bytes(std::as_bytes(std::span(bytes)), open));
  std::array<float, std::size_t{2} * kChannels> x{}, y{};
  std::iota(x.begin(), x.end(), 0.0f);
  const std::array<std::int64_t, 4> dims{1, kChannels, 1, 2};
  const engine::InputView in{engine::ElementType::kFloat, dims, std::as_bytes(std::span(x)), {}};
  const engine::OutputBuffer out{engine::ElementType::kFloat, dims,
                                 std::as_writable_bytes(std::span(y))};
  const engine::OutputWanted wanted{0, &out};
  OB_TRY(const auto done, session->run(std::span(&in, 1), std::span(&wanted, 1)));
  const auto second = static_cast<int>(std::find(y.begin(), y.end(), 1.0f) - y.begin());
  for (int c = 0; c < kChannels; ++c)
    for (int w = 0; w < 2; ++w)
      if (second < 4 || kChannels % second != 0 ||
          y[at((c / second * 2 + w) * second + c % second)] != x[at(c * 2 + w)])
        return error(ErrorKind::kUnimplemented, "the engine's blocks are not understood");
  return second;
}

}  // namespace

int block_channels(engine::Engine& engine) {
  auto* const optimiser = dynamic_cast<engine::ModelOptimiser*>(&engine);
  const std::string probe = call_probe();
  // On another device there would be such kernels, too, but not where the bands are computed.
  if (optimiser == nullptr || engine.device() != "cpu" ||
      !optimiser->optimise(std::as_bytes(std::span(probe)), {.intra_op_threads = 1}))
    return 0;
  return find_block(engine).value_or(0);
}

std::vector<char> in_blocks(const Graph& graph, int channels) {
  std::vector<char> blocked(channels > 0 ? graph.tensors.size() : 0, 0);
  for (std::size_t i = 0; i < blocked.size(); ++i) {
    const Tensor& t = graph.tensors[i];
    if (t.kind != TensorKind::kRows || t.host_owned || t.is_output || t.producer < 0 ||
        t.shape.size() != 4 || t.shape[0] != 1 || t.axis != 2 || t.outer != 1 || t.extent != 1 ||
        t.element_type != onnx::TensorProto::FLOAT || t.shape[1] % channels != 0)
      continue;
    blocked[i] = works_in_blocks(graph.ops[at(t.producer)].type) &&
                 std::any_of(t.consumers.begin(), t.consumers.end(),
                             [&](int op) { return works_in_blocks(graph.ops[at(op)].type); });
  }
  return blocked;
}

Result<onnx::ModelProto> without_shims(const Graph& graph, const BandModel& band,
                                       const std::vector<char>& blocked, int channels,
                                       std::string_view optimised) {
  OB_TRY(onnx::ModelProto model, parse_optimised(optimised));
  Stripper(graph, band, blocked, channels, model).run();
  return model;
}

}  // namespace outboard::split::exec
