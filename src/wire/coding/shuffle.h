// SPDX-License-Identifier: Apache-2.0
// Byte shuffle: the bytes of elements of `width` bytes, sorted by their place in the element, so
// that exponents lie beside exponents and a compressor finds them alike. What is left over after
// the last whole element stays at the end. Pure; thread-safe.
#pragma once

#include <cstddef>
#include <span>

namespace outboard::wire {

// `source` and `destination` have the same size and do not overlap; width is at least 1.
void shuffle(std::span<const std::byte> source, std::size_t width,
             std::span<std::byte> destination);
void unshuffle(std::span<const std::byte> source, std::size_t width,
               std::span<std::byte> destination);

}  // namespace outboard::wire
