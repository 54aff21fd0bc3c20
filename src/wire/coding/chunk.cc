// SPDX-License-Identifier: Apache-2.0
#include "wire/coding/chunk.h"

#include <cstring>

#include "base/cursor.h"
#include "base/limits.h"

namespace outboard::wire {
namespace {
constexpr std::uint8_t kPlanarFlag = 1;
}

std::array<std::byte, kChunkRecordBytes> encode(const ChunkRecord& record) {
  ByteWriter writer;
  writer.write(record.decoded_bytes);
  writer.write(static_cast<std::uint8_t>(record.transform));
  writer.write(static_cast<std::uint8_t>(record.compressor));
  writer.write(static_cast<std::uint8_t>(record.predictor));
  writer.write(record.is_planar ? kPlanarFlag : std::uint8_t{0});
  writer.write(record.channels);
  writer.zeros(3);
  writer.write(record.row_elements);
  std::array<std::byte, kChunkRecordBytes> bytes{};
  std::memcpy(bytes.data(), writer.bytes().data(), bytes.size());
  return bytes;
}

Result<ChunkRecord> decode_chunk_record(std::span<const std::byte, kChunkRecordBytes> bytes,
                                        std::uint64_t body_bytes) {
  ByteReader reader(bytes);
  ChunkRecord record;
  record.decoded_bytes = reader.read<std::uint32_t>();
  const auto transform = reader.read<std::uint8_t>();
  const auto compressor = reader.read<std::uint8_t>();
  const auto predictor = reader.read<std::uint8_t>();
  const auto flags = reader.read<std::uint8_t>();
  record.channels = reader.read<std::uint8_t>();
  const auto zero = reader.read<std::uint8_t>() | reader.read<std::uint16_t>();
  record.row_elements = reader.read<std::uint32_t>();
  if (record.decoded_bytes == 0 || record.decoded_bytes > limits::kTensorChunkBytes)
    return error(ErrorKind::kInvalid, "decoded size ({}) of a chunk must be from 1 to {}",
                 record.decoded_bytes, limits::kTensorChunkBytes);
  if (body_bytes > record.decoded_bytes)
    return error(ErrorKind::kInvalid,
                 "body ({} bytes) of a chunk must be at most what it holds ({})", body_bytes,
                 record.decoded_bytes);
  if (transform > 2 || compressor > 2 || predictor > 1 || flags > kPlanarFlag || zero != 0)
    return error(ErrorKind::kInvalid,
                 "coding (transform {}, compressor {}, predictor {}, flags {}) of a chunk must be "
                 "one of docs/wire.md",
                 transform, compressor, predictor, flags);
  record.transform = static_cast<Transform>(transform);
  record.compressor = static_cast<Compressor>(compressor);
  record.predictor = static_cast<Predictor>(predictor);
  record.is_planar = flags == kPlanarFlag;
  if (record.channels == 0 || record.channels > kMaxChannels)
    return error(ErrorKind::kInvalid, "channels ({}) of a chunk must be from 1 to {}",
                 record.channels, kMaxChannels);
  if ((record.predictor != Predictor::kNone) != (record.row_elements != 0))
    return error(ErrorKind::kInvalid,
                 "row ({} elements) of a chunk must be given with its predictor",
                 record.row_elements);
  return record;
}

}  // namespace outboard::wire
