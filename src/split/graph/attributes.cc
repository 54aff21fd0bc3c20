// SPDX-License-Identifier: Apache-2.0
#include "split/graph/attributes.h"

#include <onnx/onnx_pb.h>

namespace outboard::split {
namespace {

onnx::AttributeProto& fresh(onnx::NodeProto& node, const std::string& name) {
  remove_attribute(node, name);
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  return attribute;
}

}  // namespace

const onnx::AttributeProto* find_attribute(const onnx::NodeProto& node, std::string_view name) {
  for (const auto& a : node.attribute())
    if (a.name() == name) return &a;
  return nullptr;
}

std::int64_t attribute_int(const onnx::NodeProto& node, std::string_view name,
                           std::int64_t otherwise) {
  const auto* a = find_attribute(node, name);
  return a ? a->i() : otherwise;
}

float attribute_float(const onnx::NodeProto& node, std::string_view name, float otherwise) {
  const auto* a = find_attribute(node, name);
  return a ? a->f() : otherwise;
}

std::string attribute_string(const onnx::NodeProto& node, std::string_view name,
                             const std::string& otherwise) {
  const auto* a = find_attribute(node, name);
  return a ? a->s() : otherwise;
}

std::vector<std::int64_t> attribute_ints(const onnx::NodeProto& node, std::string_view name) {
  const auto* a = find_attribute(node, name);
  if (!a) return {};
  return {a->ints().begin(), a->ints().end()};
}

void set_attribute(onnx::NodeProto& node, const std::string& name, std::int64_t value) {
  auto& a = fresh(node, name);
  a.set_type(onnx::AttributeProto::INT);
  a.set_i(value);
}

void set_attribute(onnx::NodeProto& node, const std::string& name, float value) {
  auto& a = fresh(node, name);
  a.set_type(onnx::AttributeProto::FLOAT);
  a.set_f(value);
}

void set_attribute(onnx::NodeProto& node, const std::string& name, const std::string& value) {
  auto& a = fresh(node, name);
  a.set_type(onnx::AttributeProto::STRING);
  a.set_s(value);
}

void set_attribute(onnx::NodeProto& node, const std::string& name,
                   const std::vector<std::int64_t>& values) {
  auto& a = fresh(node, name);
  a.set_type(onnx::AttributeProto::INTS);
  for (auto v : values) a.add_ints(v);
}

void remove_attribute(onnx::NodeProto& node, std::string_view name) {
  auto& list = *node.mutable_attribute();
  for (int i = list.size() - 1; i >= 0; --i)
    if (list[i].name() == name) list.DeleteSubrange(i, 1);
}

}  // namespace outboard::split
