// SPDX-License-Identifier: Apache-2.0
#include "engine/element_type.h"

#include <array>

namespace outboard::engine {
namespace {

struct Row {
  std::string_view name;
  unsigned bits;
};

// By the type's number.
constexpr std::array<Row, 23> kTypes{{
    {"undefined", 0},      {"float", 32},       {"uint8", 8},          {"int8", 8},
    {"uint16", 16},        {"int16", 16},       {"int32", 32},         {"int64", 64},
    {"string", 0},         {"bool", 8},         {"float16", 16},       {"double", 64},
    {"uint32", 32},        {"uint64", 64},      {"complex64", 64},     {"complex128", 128},
    {"bfloat16", 16},      {"float8e4m3fn", 8}, {"float8e4m3fnuz", 8}, {"float8e5m2", 8},
    {"float8e5m2fnuz", 8}, {"uint4", 4},        {"int4", 4},
}};

const Row& row(ElementType type) {
  const auto number = static_cast<std::size_t>(type);
  return kTypes[number < kTypes.size() ? number : 0];
}

}  // namespace

std::string_view name_of(ElementType type) { return row(type).name; }
unsigned bits_of(ElementType type) { return row(type).bits; }

std::optional<std::uint64_t> element_count(std::span<const std::int64_t> dims) {
  // A zero anywhere makes the tensor empty, whatever the product of the others.
  std::uint64_t count = 1;
  bool empty = false;
  for (const std::int64_t dim : dims) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) empty = true;
    if (!empty && __builtin_mul_overflow(count, static_cast<std::uint64_t>(dim), &count))
      return std::nullopt;
  }
  return empty ? 0 : count;
}

std::optional<std::uint64_t> size_bytes(ElementType type, std::span<const std::int64_t> dims) {
  const auto count = element_count(dims);
  std::uint64_t bits = 0;
  if (!count || __builtin_mul_overflow(*count, std::uint64_t{bits_of(type)}, &bits))
    return std::nullopt;
  return bits / 8 + (bits % 8 != 0 ? 1 : 0);
}

}  // namespace outboard::engine
