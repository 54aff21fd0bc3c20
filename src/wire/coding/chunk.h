// SPDX-License-Identifier: Apache-2.0
// A chunk: a piece of a tensor in fewer bytes, complete in itself. A record of 16 bytes says how
// it is coded, the body follows; docs/wire.md ("Coded tensors") is the specification.
//
//   tensor bytes --transform--> plain bytes --predictor--> residuals --compressor--> body
//
// Transforms: none; shuffle (the first bytes of all elements, then the second ones, ...); palette
// (the distinct values of each channel, then a byte an element). The predictor turns bytes of a
// picture into small differences. Every step is exact, whatever the bits.
//
// Pure; thread-safe. Errors: kInvalid for bytes that are no chunk; nothing is read or written
// beyond the spans, and the memory that decoding takes is bounded by limits::kTensorChunkBytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace outboard::wire {

enum class Transform : std::uint8_t { kNone = 0, kShuffle = 1, kPalette = 2 };
enum class Compressor : std::uint8_t { kNone = 0, kLz4 = 1, kZstd = 2 };
enum class Predictor : std::uint8_t { kNone = 0, kMedian = 1 };

struct ChunkRecord {
  std::uint32_t decoded_bytes = 0;  // 1 to limits::kTensorChunkBytes
  Transform transform = Transform::kNone;
  Compressor compressor = Compressor::kNone;
  Predictor predictor = Predictor::kNone;
  bool is_planar = false;          // channels lie one after the other, not element by element
  std::uint8_t channels = 1;       // 1 to kMaxChannels; each has its own palette
  std::uint32_t row_elements = 0;  // of all interleaved channels; for the predictor, else 0
  bool operator==(const ChunkRecord&) const = default;
};
inline constexpr std::size_t kChunkRecordBytes = 16;
inline constexpr std::size_t kMaxChannels = 16;

std::array<std::byte, kChunkRecordBytes> encode(const ChunkRecord& record);
// Checks every field by itself, and that `body_bytes` is at most what the chunk decodes to.
Result<ChunkRecord> decode_chunk_record(std::span<const std::byte, kChunkRecordBytes> bytes,
                                        std::uint64_t body_bytes);

}  // namespace outboard::wire
