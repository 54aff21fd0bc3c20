// SPDX-License-Identifier: Apache-2.0
#include "wire/tensor.h"

#include <fmt/ranges.h>

#include <array>

#include "base/cursor.h"
#include "base/limits.h"

namespace outboard::wire {
namespace {

struct TypeInfo {
  std::string_view name;
  unsigned bits;
};

// Indexed by ElementType.
constexpr std::array<TypeInfo, 23> kTypes = {
    {{"undefined", 0},      {"float", 32},     {"uint8", 8},
     {"int8", 8},           {"uint16", 16},    {"int16", 16},
     {"int32", 32},         {"int64", 64},     {"string", 0},
     {"bool", 8},           {"float16", 16},   {"double", 64},
     {"uint32", 32},        {"uint64", 64},    {"complex64", 64},
     {"complex128", 128},   {"bfloat16", 16},  {"float8e4m3fn", 8},
     {"float8e4m3fnuz", 8}, {"float8e5m2", 8}, {"float8e5m2fnuz", 8},
     {"uint4", 4},          {"int4", 4}}};

}  // namespace

std::string_view name_of(ElementType type) {
  const auto number = static_cast<std::size_t>(type);
  return number < kTypes.size() ? kTypes[number].name : "unknown";
}

bool is_known(std::uint8_t number) { return number != 0 && number < kTypes.size(); }

unsigned bits_of(ElementType type) {
  const auto number = static_cast<std::size_t>(type);
  return number < kTypes.size() ? kTypes[number].bits : 0;
}

std::optional<std::uint64_t> element_count(std::span<const std::int64_t> dims) {
  std::uint64_t count = 1;
  for (const std::int64_t dim : dims) {
    if (dim < 0 || __builtin_mul_overflow(count, static_cast<std::uint64_t>(dim), &count))
      return std::nullopt;
  }
  return count;
}

Result<std::uint64_t> size_bytes(ElementType type, std::span<const std::int64_t> dims) {
  const unsigned bits = bits_of(type);
  if (bits == 0)
    return error(ErrorKind::kInvalid, "element type ({}) must have a fixed size", name_of(type));
  const auto count = element_count(dims);
  std::uint64_t total_bits = 0;
  if (!count || __builtin_mul_overflow(*count, std::uint64_t{bits}, &total_bits) ||
      total_bits / 8 > limits::kTensorBytes) {
    return error(ErrorKind::kInvalid,
                 "shape ([{}]) must be non-negative and its tensor at most {} bytes",
                 fmt::join(dims, ","), limits::kTensorBytes);
  }
  return total_bits / 8 + (total_bits % 8 != 0 ? 1 : 0);
}

std::string encode_strings(std::span<const std::string_view> strings) {
  ByteWriter writer;
  for (const auto text : strings) writer.write(static_cast<std::uint32_t>(text.size()));
  for (const auto text : strings) writer.append(as_byte_span(text));
  return std::string(reinterpret_cast<const char*>(writer.bytes().data()), writer.size());
}

Result<std::vector<std::string_view>> decode_strings(std::span<const std::byte> bytes,
                                                     std::uint64_t count) {
  if (count > bytes.size() / sizeof(std::uint32_t))
    return error(ErrorKind::kInvalid,
                 "string tensor of {} elements must have at least {} bytes, not {}", count,
                 count * sizeof(std::uint32_t), bytes.size());
  ByteReader lengths(bytes.first(count * sizeof(std::uint32_t)));
  ByteReader text(bytes.subspan(count * sizeof(std::uint32_t)));
  std::vector<std::string_view> strings;
  strings.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto part = text.take(lengths.read<std::uint32_t>());
    if (!text.ok())
      return error(ErrorKind::kInvalid, "string ({}) of a string tensor must lie within it", i);
    strings.emplace_back(reinterpret_cast<const char*>(part.data()), part.size());
  }
  if (text.remaining() != 0)
    return error(ErrorKind::kInvalid, "string tensor has {} bytes too many", text.remaining());
  return strings;
}

}  // namespace outboard::wire
