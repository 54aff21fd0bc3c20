// SPDX-License-Identifier: Apache-2.0
// ONNX is protobuf: a message is a sequence of (field number, wire type) and value. The few fields
// that a stub needs are written by hand, so that no protobuf library meets the host's own. Field
// numbers are those of onnx.proto (IR version 8).
#include "intercept/onnxruntime/stub_model.h"

#include <fmt/format.h>

#include <set>

namespace outboard::intercept::onnxruntime {
namespace {

class ProtoWriter {
 public:
  ProtoWriter& integer(std::uint32_t field, std::uint64_t value) {
    varint(field << 3);
    varint(value);
    return *this;
  }
  ProtoWriter& bytes(std::uint32_t field, std::string_view value) {
    varint(field << 3 | 2);
    varint(value.size());
    text_.append(value);
    return *this;
  }
  ProtoWriter& message(std::uint32_t field, const ProtoWriter& value) {
    return bytes(field, value.text_);
  }
  const std::string& text() const { return text_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_.push_back(static_cast<char>(value | 0x80));
    text_.push_back(static_cast<char>(value));
  }
  std::string text_;
};

// ValueInfoProto{name = 1, type = 2: TypeProto{tensor_type = 1: Tensor{elem_type = 1, shape = 2}}}
ProtoWriter value_info(const wire::ValueDescription& value) {
  ProtoWriter tensor;
  tensor.integer(1, static_cast<std::uint64_t>(value.type));
  // The C API shows a scalar and an unknown rank alike; without a shape both run.
  if (value.has_shape && !value.dims.empty()) {
    ProtoWriter shape;
    for (std::size_t i = 0; i < value.dims.size(); ++i) {
      ProtoWriter dim;
      if (value.dims[i] >= 0) {
        dim.integer(1, static_cast<std::uint64_t>(value.dims[i]));
      } else if (i < value.dim_names.size() && !value.dim_names[i].empty()) {
        dim.bytes(2, value.dim_names[i]);
      }
      shape.message(1, dim);
    }
    tensor.message(2, shape);
  }
  ProtoWriter type, info;
  type.message(1, tensor);
  info.bytes(1, value.name).message(2, type);
  return info;
}

ProtoWriter node(const wire::SessionDescription& description, const StubSignature& signature,
                 std::int64_t session) {
  ProtoWriter node;
  for (const auto& input : description.inputs) node.bytes(1, input.name);
  for (const std::uint32_t i : signature.model_output) node.bytes(2, description.outputs[i].name);
  constexpr std::uint64_t kIntAttribute = 2;
  ProtoWriter attribute;
  attribute.bytes(1, kStubAttribute).integer(3, static_cast<std::uint64_t>(session));
  attribute.integer(20, kIntAttribute);
  node.bytes(3, "outboard").bytes(4, kStubOperator).message(5, attribute);
  node.bytes(7, signature.domain());
  return node;
}

Result<void> check_value(const wire::ValueDescription& value, const char* what) {
  const auto number = static_cast<std::uint8_t>(value.type);
  if (!wire::is_known(number) || value.type == wire::ElementType::kComplex64 ||
      value.type == wire::ElementType::kComplex128) {
    return error(ErrorKind::kRefused, "{} ({}) has an element type ({}) that cannot travel", what,
                 value.name, number);
  }
  return {};
}

}  // namespace

std::string StubSignature::domain() const {
  std::string name = "outboard";
  char separator = '.';
  for (const auto type : inputs) {
    fmt::format_to(std::back_inserter(name), "{}{}", separator, static_cast<int>(type));
    separator = '_';
  }
  separator = '-';
  for (const auto type : outputs) {
    fmt::format_to(std::back_inserter(name), "{}{}", separator, static_cast<int>(type));
    separator = '_';
  }
  return name;
}

Result<StubSignature> signature_of(const wire::SessionDescription& description) {
  StubSignature signature;
  std::set<std::string_view> inputs, outputs;
  for (const auto& input : description.inputs) {
    OB_CHECK_OK(check_value(input, "input"));
    if (!inputs.insert(input.name).second) {
      return error(ErrorKind::kRefused, "input ({}) appears twice", input.name);
    }
    signature.inputs.push_back(input.type);
  }
  for (std::uint32_t i = 0; i < description.outputs.size(); ++i) {
    const auto& output = description.outputs[i];
    OB_CHECK_OK(check_value(output, "output"));
    if (!outputs.insert(output.name).second) {
      return error(ErrorKind::kRefused, "output ({}) appears twice", output.name);
    }
    if (inputs.contains(output.name)) {
      signature.node_output.push_back(-1);
      continue;
    }
    signature.node_output.push_back(static_cast<int>(signature.outputs.size()));
    signature.model_output.push_back(i);
    signature.outputs.push_back(output.type);
  }
  if (signature.outputs.empty()) {
    return error(ErrorKind::kRefused, "model computes nothing: all its outputs are inputs");
  }
  return signature;
}

std::string write_stub_model(const wire::SessionDescription& description,
                             const StubSignature& signature, std::int64_t session) {
  ProtoWriter graph;
  graph.message(1, node(description, signature, session)).bytes(2, description.graph_name);
  if (!description.graph_description.empty()) graph.bytes(10, description.graph_description);
  for (const auto& input : description.inputs) graph.message(11, value_info(input));
  for (const auto& output : description.outputs) graph.message(12, value_info(output));

  constexpr std::uint64_t kIrVersion = 8, kOnnxOpset = 17;
  ProtoWriter onnx, ours, model;
  onnx.bytes(1, "").integer(2, kOnnxOpset);
  ours.bytes(1, signature.domain()).integer(2, 1);
  model.integer(1, kIrVersion).message(8, onnx).message(8, ours);
  model.bytes(2, description.producer).bytes(4, description.domain);
  model.integer(5, static_cast<std::uint64_t>(description.version));
  model.bytes(6, description.description).message(7, graph);
  for (const auto& [key, value] : description.custom_metadata) {
    ProtoWriter entry;
    entry.bytes(1, key).bytes(2, value);
    model.message(14, entry);
  }
  return model.text();
}

}  // namespace outboard::intercept::onnxruntime
