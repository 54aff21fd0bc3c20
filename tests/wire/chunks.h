// SPDX-License-Identifier: Apache-2.0
// Chunks of every coding with fixed content: the byte tests, the mutation tests and the fuzzer's
// seeds.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace outboard::wire {

struct GoldenChunk {
  std::string_view name;
  std::size_t element_bytes;
  std::vector<std::byte> bytes;  // record and body
  std::vector<std::byte> tensor;
};

// Palette and shuffle by themselves, each with what follows it; written by hand where no library
// decides about the bytes.
std::vector<GoldenChunk> golden_chunks();

// What a receiver does with a chunk's bytes. Any error is fine; crashing, hanging or reading beyond
// the bytes is not.
Result<std::vector<std::byte>> decode_as_receiver(std::size_t element_bytes,
                                                  std::span<const std::byte> bytes);

}  // namespace outboard::wire
