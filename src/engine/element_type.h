// SPDX-License-Identifier: Apache-2.0
// Sizes and names of element types. Pure; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/engine.h"

namespace outboard::engine {

std::string_view name_of(ElementType type);  // "float", "int64", ...
unsigned bits_of(ElementType type);          // 0 for kString and kUndefined

// Product of the dimensions (1 for a scalar); nullopt when one is negative or it overflows.
std::optional<std::uint64_t> element_count(std::span<const std::int64_t> dims);
// Bytes of a tensor of fixed-size elements, sub-byte types packed and rounded up; nullopt as above.
std::optional<std::uint64_t> size_bytes(ElementType type, std::span<const std::int64_t> dims);

}  // namespace outboard::engine
