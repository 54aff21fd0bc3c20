// SPDX-License-Identifier: Apache-2.0
#include "split/exec/optimised.h"

#include "split/graph/protobuf_fields.h"

namespace outboard::split::exec {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using Bytes = std::span<const std::byte>;

// Calls visit(field, value) for the length-delimited fields of a message.
template <typename Visit>
bool for_each_part(Bytes message, Visit visit) {
  return for_each_field(message, [&](std::uint32_t tag, int field, CodedInputStream& in) {
    if (!is_bytes(tag)) return WireFormatLite::SkipField(&in, tag);
    Bytes part;
    return read_view(message, in, part) && visit(field, part);
  });
}

// The values of the weights, in bytes: what takes no more in a message than serialised.
bool count_values(Bytes model, std::uint64_t& value_bytes) {
  return for_each_part(model, [&](int in_model, Bytes graph) {
    return in_model != kModelGraph || for_each_part(graph, [&](int in_graph, Bytes tensor) {
             return in_graph != kGraphInitializer ||
                    for_each_part(tensor, [&](int field, Bytes values) {
                      if (field == kTensorRawData || field == kTensorFloatData)
                        value_bytes += values.size();
                      return true;
                    });
           });
  });
}

}  // namespace

Result<onnx::ModelProto> parse_optimised(std::string_view bytes) {
  std::uint64_t value_bytes = 0;
  if (!count_values(std::as_bytes(std::span(bytes)), value_bytes))
    return error(ErrorKind::kInvalid, "what the engine made of a band ({} bytes) is no model",
                 bytes.size());
  if (const std::uint64_t structure = bytes.size() - value_bytes; structure > kMostStructureBytes)
    return error(ErrorKind::kInvalid,
                 "what the engine made of a band has ({}) bytes beside its weights, and at most {} "
                 "are expected",
                 structure, kMostStructureBytes);
  onnx::ModelProto model;
  if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return error(ErrorKind::kInvalid, "what the engine made of a band ({} bytes) is no model",
                 bytes.size());
  if (model.graph().node_size() > kMostNodes)
    return error(ErrorKind::kInvalid,
                 "what the engine made of a band has ({}) operators, and at most {} are expected",
                 model.graph().node_size(), kMostNodes);
  for (const auto& node : model.graph().node())
    if (node.input_size() == 0 || node.output_size() == 0)
      return error(ErrorKind::kInvalid,
                   "what the engine made of a band has an operator ({}) without input or output",
                   node.name());
  return model;
}

}  // namespace outboard::split::exec
