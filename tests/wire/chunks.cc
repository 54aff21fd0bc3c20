// SPDX-License-Identifier: Apache-2.0
#include "tests/wire/chunks.h"

#include <array>
#include <initializer_list>

#include "wire/coding/codec.h"

namespace outboard::wire {
namespace {

std::vector<std::byte> made_of(std::initializer_list<unsigned> numbers) {
  std::vector<std::byte> bytes;
  for (const unsigned number : numbers) bytes.push_back(static_cast<std::byte>(number));
  return bytes;
}

}  // namespace

std::vector<GoldenChunk> golden_chunks() {
  return {
      {"unchanged", 4, made_of({4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,  //
                                1, 2, 3, 4}),
       made_of({1, 2, 3, 4})},
      {"shuffle", 2, made_of({6, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,  //
                              1, 3, 5, 2, 4, 6}),
       made_of({1, 2, 3, 4, 5, 6})},
      // Two channels, element by element: the first is 0x0201 or 0x0403, the second 0x0605.
      {"palette_interleaved", 2,
       made_of({24, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,  //
                2,  0, 1, 2, 3, 4, 1, 0, 5, 6, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0}),
       made_of({1, 2, 5, 6, 3, 4, 5, 6, 3, 4, 5, 6, 1, 2, 5, 6, 1, 2, 5, 6, 3, 4, 5, 6})},
      // Two planes; the second has the palette of the first.
      {"palette_planar", 4, made_of({32, 0, 0, 0, 2, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0,  //
                                     2,  0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0, 1, 1, 0, 0, 1}),
       made_of({1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
                5, 6, 7, 8, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8})},
      // Bytes with a predictor: 2 rows of 3, residuals of 10 11 12 / 12 13 16.
      {"median", 1, made_of({6,  0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 3, 0, 0, 0,  //
                             10, 1, 1, 2, 1, 3}),
       made_of({10, 11, 12, 12, 13, 16})},
      // LZ4 block: one literal, a match of 27 at distance 1, five literals.
      {"lz4", 1, made_of({33,   0, 0, 0, 0, 1,    0, 0, 1, 0, 0, 0, 0, 0, 0, 0,  //
                          0x1F, 7, 1, 0, 8, 0x50, 7, 7, 7, 7, 7}),
       std::vector<std::byte>(33, std::byte{7})},
      // zstd: a frame with a block of type RLE.
      {"zstd", 1, made_of({40,   0,    0,    0,    0,    2,  0,    0, 1, 0, 0, 0, 0, 0, 0, 0,  //
                           0x28, 0xB5, 0x2F, 0xFD, 0x20, 40, 0x43, 1, 0, 9}),
       std::vector<std::byte>(40, std::byte{9})},
  };
}

Result<std::vector<std::byte>> decode_as_receiver(std::size_t element_bytes,
                                                  std::span<const std::byte> bytes) {
  if (bytes.size() < kChunkRecordBytes)
    return error(ErrorKind::kInvalid, "chunk of {} bytes", bytes.size());
  const auto body = bytes.subspan(kChunkRecordBytes);
  OB_TRY(const ChunkRecord record,
         decode_chunk_record(bytes.first<kChunkRecordBytes>(), body.size()));
  std::vector<std::byte> tensor(record.decoded_bytes);
  ChunkCodec codec;
  OB_CHECK_OK(codec.decode(record, element_bytes, body, tensor));
  return tensor;
}

}  // namespace outboard::wire
