// SPDX-License-Identifier: Apache-2.0
// Finds the external data of an ONNX model without a protobuf library (this runs inside somebody
// else's process): walks only the fields that lead to tensors. Field numbers: onnx.proto3 of
// ONNX 1.17.
//
//   ModelProto     graph 7, functions 25          FunctionProto  node 7
//   GraphProto     node 1, initializer 5, sparse_initializer 15
//   NodeProto      attribute 5
//   AttributeProto t 5, g 6, tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23
//   SparseTensor   values 1, indices 2
//   TensorProto    external_data 13 { key 1, value 2 }
#include <cstring>
#include <unordered_set>

#include "base/cursor.h"
#include "wire/model_package.h"

namespace outboard::wire {
namespace {

enum class Message : std::uint8_t {
  kModel,
  kFunction,
  kGraph,
  kNode,
  kAttribute,
  kSparse,
  kTensor,
  kNone
};

Message child_of(Message parent, std::uint64_t field) {
  switch (parent) {
    case Message::kModel:
      return field == 7 ? Message::kGraph : field == 25 ? Message::kFunction : Message::kNone;
    case Message::kFunction:
      return field == 7 ? Message::kNode : Message::kNone;
    case Message::kGraph:
      return field == 1    ? Message::kNode
             : field == 5  ? Message::kTensor
             : field == 15 ? Message::kSparse
                           : Message::kNone;
    case Message::kNode:
      return field == 5 ? Message::kAttribute : Message::kNone;
    case Message::kAttribute:
      if (field == 5 || field == 10) return Message::kTensor;
      if (field == 6 || field == 11) return Message::kGraph;
      return field == 22 || field == 23 ? Message::kSparse : Message::kNone;
    case Message::kSparse:
      return field == 1 || field == 2 ? Message::kTensor : Message::kNone;
    default:
      return Message::kNone;
  }
}

struct Field {
  std::uint64_t number = 0;
  std::span<const std::byte> bytes;  // of a length-delimited field, else empty
};

std::uint64_t read_varint(ByteReader& reader) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const auto byte = reader.read<std::uint8_t>();
    value |= std::uint64_t{byte & 0x7Fu} << shift;
    if ((byte & 0x80u) == 0) return value;
  }
  reader.take(reader.remaining() + 1);  // more than ten bytes: no varint
  return 0;
}

// False at the end of the message or at bytes that are no protobuf.
bool next_field(ByteReader& reader, Field& field) {
  if (reader.remaining() == 0) return false;
  const std::uint64_t tag = read_varint(reader);
  field = {tag >> 3, {}};
  switch (tag & 7) {
    case 0:
      read_varint(reader);
      break;
    case 1:
      reader.take(8);
      break;
    case 2: {
      const std::uint64_t size = read_varint(reader);
      field.bytes = reader.take(size);
      break;
    }
    case 5:
      reader.take(4);
      break;
    default:
      return false;
  }
  return reader.ok();
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Scanner {
 public:
  void scan(Message kind, std::span<const std::byte> bytes, unsigned depth) {
    constexpr unsigned kMaxDepth =
        64;  // nested sub-graphs; a deeper model is left to the runtime to refuse
    if (depth > kMaxDepth) return;
    ByteReader reader(bytes);
    for (Field field; next_field(reader, field);) {
      if (kind == Message::kTensor) {
        if (field.number == 13) external_entry(field.bytes);
      } else if (const Message child = child_of(kind, field.number); child != Message::kNone) {
        scan(child, field.bytes, depth + 1);
      }
    }
  }
  std::vector<std::string> take() { return std::move(locations_); }

 private:
  void external_entry(std::span<const std::byte> bytes) {
    std::string_view key, value;
    ByteReader reader(bytes);
    for (Field field; next_field(reader, field);) {
      if (field.number == 1) key = text_of(field.bytes);
      if (field.number == 2) value = text_of(field.bytes);
    }
    if (key == "location" && !value.empty() && seen_.emplace(value).second)
      locations_.emplace_back(value);
  }
  std::vector<std::string> locations_;
  std::unordered_set<std::string> seen_;
};

}  // namespace

std::vector<std::string> external_data_locations(std::span<const std::byte> model) {
  constexpr std::string_view kOrtIdentifier = "ORTM";  // bytes 4 to 7 of ONNX Runtime's own format
  if (model.size() >= 8 &&
      std::memcmp(model.data() + 4, kOrtIdentifier.data(), kOrtIdentifier.size()) == 0)
    return {};
  Scanner scanner;
  scanner.scan(Message::kModel, model, 0);
  return scanner.take();
}

bool is_safe_relative_path(std::string_view name) {
  if (name.empty() || name.front() == '/') return false;
  if (name.find('\\') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return false;
  while (true) {
    const auto slash = name.find('/');
    const auto part = name.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    name.remove_prefix(slash + 1);
  }
}

}  // namespace outboard::wire
