// SPDX-License-Identifier: Apache-2.0
// Codes and decodes the chunks of tensors (chunk.h): how a tensor is cut, and each piece.
//
// A codec belongs to one thread at a time and keeps its working memory, some
// 2 * limits::kTensorChunkBytes at most, and the palettes that it has learnt.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/coding/chunk.h"
#include "wire/coding/compress.h"
#include "wire/coding/palette.h"
#include "wire/tensor.h"

namespace outboard::wire {

// What a sender may choose for a tensor; a chunk of it where the coding does not hold travels
// unchanged. Order and numbers are of this program, not of the wire.
enum class Coding : std::uint8_t {
  kRaw = 0,      // as without coding
  kPalette,      // palette
  kPaletteZstd,  // palette, predictor, zstd
  kLz4,          // shuffle, LZ4
  kZstd,         // shuffle, zstd; for pictures of bytes: predictor, zstd
};
inline constexpr std::size_t kCodings = 5;
std::string_view name_of(Coding coding);  // "raw", "palette", "palette+zstd", "lz4", "zstd"

// How a tensor is cut into chunks and where its channels and rows are, as far as its shape tells.
struct ChunkLayout {
  std::size_t element_bytes = 1;
  std::size_t chunk_bytes = 0;       // of each chunk; the last of a plane or tensor may be smaller
  std::size_t plane_bytes = 0;       // chunks do not cross a multiple of it; 0: no such border
  std::size_t channels = 1;          // with a palette each, in a chunk
  std::size_t picture_channels = 1;  // with a palette each, over all chunks
  bool is_planar = false;
  std::size_t row_elements = 0;  // 0: no rows to speak of
};
ChunkLayout layout_of(const TensorHeader& header);
// Size of the chunk that starts at `offset` of a tensor of `total` bytes; at least 1.
std::size_t chunk_size(const ChunkLayout& layout, std::uint64_t offset, std::uint64_t total);

// A tensor's palettes, kept from one Run to the next.
struct PaletteMemory {
  std::vector<PaletteEncoder> encoders;
};

class ChunkCodec {
 public:
  struct Coded {
    ChunkRecord record;
    std::span<const std::byte> body;  // holds until the next call; borrows `bytes` when unchanged
  };
  // `offset`: where `bytes` lie in the tensor. Never fails: what does not shrink is left as it is.
  Coded encode(Coding coding, const ChunkLayout& layout, std::uint64_t offset,
               std::span<const std::byte> bytes, PaletteMemory& palettes);
  // Fills `destination`, whose size must be the record's. `element_bytes`: of the tensor's type.
  Result<void> decode(const ChunkRecord& record, std::size_t element_bytes,
                      std::span<const std::byte> body, std::span<std::byte> destination);

 private:
  std::size_t encode_palette(const ChunkLayout& layout, std::uint64_t offset,
                             std::span<const std::byte> bytes, PaletteMemory& palettes,
                             ChunkRecord& record);
  Coded finish(ChunkRecord record, std::span<const std::byte> plain, std::size_t head_bytes,
               std::span<const std::byte> bytes, std::size_t row_elements);
  Result<void> decode_palette(const ChunkRecord& record, std::size_t width,
                              std::span<const std::byte> body, std::span<std::byte> destination);
  Result<std::span<const std::byte>> plain_bytes(const ChunkRecord& record,
                                                 std::span<const std::byte> body,
                                                 std::size_t size_bytes);
  static Result<void> undo_predictor(const ChunkRecord& record, std::span<std::byte> plain);

  Compressors compressors_;
  std::vector<std::byte> plain_, residuals_, body_;  // grown to a chunk's size at most
};

}  // namespace outboard::wire
