// SPDX-License-Identifier: Apache-2.0
// Small constant tensors (shapes, axes, scales, clip limits) and the operators on them that
// exporters leave in a model: Shape -> Gather -> Concat -> Reshape becomes a constant once the
// input is fixed. Values are held as doubles, exact for every integer a shape can be. Pure values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "split/graph/onnx_file.h"

namespace onnx {
class NodeProto;
class TensorProto;
}  // namespace onnx

namespace outboard::split {

struct ConstValue {
  int element_type = 0;  // onnx::TensorProto::DataType
  std::vector<std::int64_t> dims;
  std::vector<double> values;

  std::vector<std::int64_t> as_ints() const;  // saturating
};

// Larger tensors are weights and never folded.
constexpr std::size_t kMaxFoldedElements = 4096;

// The values of a small tensor; nothing when it is large or of an element type that is not handled.
std::optional<ConstValue> const_value(const onnx::TensorProto& tensor,
                                      std::span<const std::byte> raw);
onnx::TensorProto to_proto(const ConstValue& value, const std::string& name);

// The bytes of one element; 0 for strings and unknown types.
int element_size_bytes(int element_type);
// Saturates, so that the count times any element's size is a number of bytes. Negative or 0 for a
// shape that is not known.
inline constexpr std::int64_t kMostElements = std::int64_t{1} << 59;
std::int64_t element_count(const std::vector<std::int64_t>& dims);

// The outputs of a node all of whose inputs are known (null: an absent optional input), when the
// operator is one of those that compute shapes; nothing otherwise.
std::optional<ConstValue> fold(const onnx::NodeProto& node,
                               const std::vector<const ConstValue*>& inputs);

}  // namespace outboard::split
