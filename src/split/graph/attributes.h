// SPDX-License-Identifier: Apache-2.0
// Reading and writing the attributes of an ONNX node. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace onnx {
class AttributeProto;
class NodeProto;
}  // namespace onnx

namespace outboard::split {

const onnx::AttributeProto* find_attribute(const onnx::NodeProto& node, std::string_view name);
std::int64_t attribute_int(const onnx::NodeProto& node, std::string_view name,
                           std::int64_t otherwise);
float attribute_float(const onnx::NodeProto& node, std::string_view name, float otherwise);
std::string attribute_string(const onnx::NodeProto& node, std::string_view name,
                             const std::string& otherwise);
// Empty when there is none.
std::vector<std::int64_t> attribute_ints(const onnx::NodeProto& node, std::string_view name);

void set_attribute(onnx::NodeProto& node, const std::string& name, std::int64_t value);
void set_attribute(onnx::NodeProto& node, const std::string& name, float value);
void set_attribute(onnx::NodeProto& node, const std::string& name, const std::string& value);
void set_attribute(onnx::NodeProto& node, const std::string& name,
                   const std::vector<std::int64_t>& values);
void remove_attribute(onnx::NodeProto& node, std::string_view name);

}  // namespace outboard::split
