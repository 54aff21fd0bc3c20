// SPDX-License-Identifier: Apache-2.0
// Tensors as the wire knows them: element type, dimensions, size in bytes. Pure; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"

namespace outboard::wire {

// The numbers of ONNX TensorProto.DataType, which are also ONNX Runtime's.
enum class ElementType : std::uint8_t {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBfloat16 = 16,
  kFloat8E4M3FN = 17,
  kFloat8E4M3FNUZ = 18,
  kFloat8E5M2 = 19,
  kFloat8E5M2FNUZ = 20,
  kUint4 = 21,
  kInt4 = 22,
};

std::string_view name_of(ElementType type);  // "float", "int64", ...
bool is_known(std::uint8_t number);          // one of the above, kUndefined excluded
unsigned bits_of(ElementType type);          // 0 for kString, whose size varies, and kUndefined

// Product of the dimensions (1 for a scalar); nullopt when one is negative or the product
// overflows.
std::optional<std::uint64_t> element_count(std::span<const std::int64_t> dims);
// Bytes of a tensor of fixed-size elements; sub-byte types are packed and rounded up to a byte.
// kInvalid: a negative dimension, an overflow, beyond limits::kTensorBytes, or kString.
Result<std::uint64_t> size_bytes(ElementType type, std::span<const std::int64_t> dims);

// What travels before a tensor's bytes.
struct TensorHeader {
  ElementType type = ElementType::kUndefined;
  std::vector<std::int64_t> dims;
  std::uint64_t data_bytes = 0;  // on the wire; for kString see encode_strings
  // Where in the sender's shared memory the data lies (wire/shared_link.h); none: in the frame.
  std::optional<std::uint64_t> shared_offset = std::nullopt;
  bool in_chunks = false;  // the data follows in frames of its own (wire/tensor_coder.h)
  std::optional<Sha256> known = std::nullopt;  // the receiver has the data: its hash
  bool keep = false;                           // the receiver shall keep the data
  std::uint64_t frame_bytes() const { return shared_offset || in_chunks || known ? 0 : data_bytes; }
};

// String tensors travel as one uint32 length an element, then all the bytes.
std::string encode_strings(std::span<const std::string_view> strings);
// Views into `bytes`. kInvalid when lengths and bytes do not agree with `count`.
Result<std::vector<std::string_view>> decode_strings(std::span<const std::byte> bytes,
                                                     std::uint64_t count);

}  // namespace outboard::wire
