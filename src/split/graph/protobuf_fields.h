// SPDX-License-Identifier: Apache-2.0
// Walks the fields of a serialised protobuf message without making the message: for what is large,
// or not to be trusted. Any bytes may come; every function says false for what is no message. Pure.
#pragma once

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace outboard::split {

// Field numbers of onnx.proto that never change.
inline constexpr int kModelGraph = 7, kGraphInitializer = 5, kTensorFloatData = 4,
                     kTensorRawData = 9, kTensorName = 8;

// Calls visit(tag, field, stream) for each field of a message; visit consumes the field's value.
template <typename Visit>
bool for_each_field(std::span<const std::byte> message, Visit visit) {
  if (message.size() > std::numeric_limits<int>::max()) return false;
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const std::uint8_t*>(message.data()),
                                            static_cast<int>(message.size()));
  in.SetTotalBytesLimit(std::numeric_limits<int>::max());
  for (;;) {
    const std::uint32_t tag = in.ReadTag();
    if (tag == 0) return in.CurrentPosition() == static_cast<int>(message.size());
    if (!visit(tag, google::protobuf::internal::WireFormatLite::GetTagFieldNumber(tag), in))
      return false;
  }
}

inline bool is_bytes(std::uint32_t tag) {
  using google::protobuf::internal::WireFormatLite;
  return WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
}

// The value of a length-delimited field as a view into the message.
inline bool read_view(std::span<const std::byte> message,
                      google::protobuf::io::CodedInputStream& in,
                      std::span<const std::byte>& view) {
  std::uint32_t size = 0;
  if (!in.ReadVarint32(&size)) return false;
  const auto at = static_cast<std::size_t>(in.CurrentPosition());
  if (size > message.size() - at) return false;
  view = message.subspan(at, size);
  return in.Skip(static_cast<int>(size));
}

}  // namespace outboard::split
