// SPDX-License-Identifier: Apache-2.0
#include "wire/coding/codec.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/cursor.h"
#include "wire/coding/predict.h"
#include "wire/coding/shuffle.h"

namespace outboard::wire {
namespace {

std::span<std::uint8_t> as_numbers(std::span<std::byte> bytes) {
  return {reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()};
}

std::span<std::byte> room(std::vector<std::byte>& memory, std::size_t size) {
  if (memory.size() < size) memory.resize(size);
  return std::span(memory).first(size);
}

bool has_palette(std::size_t width) { return width == 2 || width == 4 || width == 8; }

std::size_t stride_of(const ChunkRecord& record) { return record.is_planar ? 1 : record.channels; }

// Channel `index` of a chunk of `elements`: where it begins, and how many it has.
struct Place {
  std::size_t first, count, stride;
};
Place place_of(const ChunkRecord& record, std::size_t elements, std::size_t index) {
  const std::size_t count = elements / record.channels;
  return record.is_planar ? Place{index * count, count, 1} : Place{index, count, record.channels};
}

}  // namespace

std::string_view name_of(Coding coding) {
  constexpr std::array<std::string_view, kCodings> kNames = {"raw", "palette", "palette+zstd",
                                                             "lz4", "zstd"};
  const auto number = static_cast<std::size_t>(coding);
  return number < kNames.size() ? kNames[number] : "unknown";
}

// ---- coding
// -----------------------------------------------------------------------------------------

// Indices into plain_, the values into body_; the size of the latter, 0 when it does not hold.
std::size_t ChunkCodec::encode_palette(const ChunkLayout& layout, std::uint64_t offset,
                                       std::span<const std::byte> bytes, PaletteMemory& palettes,
                                       ChunkRecord& record) {
  const std::size_t width = layout.element_bytes, elements = bytes.size() / width;
  record.channels = static_cast<std::uint8_t>(layout.is_planar ? bytes.size() / layout.plane_bytes
                                                               : layout.channels);
  if (!has_palette(width) || record.channels == 0 || elements * width != bytes.size() ||
      elements % record.channels != 0)
    return 0;
  record.transform = Transform::kPalette;
  record.is_planar = layout.is_planar;
  palettes.encoders.resize(layout.picture_channels);
  const std::span<std::uint8_t> indices = as_numbers(room(plain_, elements));
  const std::uint64_t first_plane = layout.plane_bytes == 0 ? 0 : offset / layout.plane_bytes;
  ByteWriter head;
  std::size_t before = 0, before_bytes = 0;  // where the latest values lie in `head`
  for (std::size_t c = 0; c < record.channels; ++c) {
    const Place place = place_of(record, elements, c);
    PaletteEncoder& encoder = palettes.encoders[(first_plane + c) % layout.picture_channels];
    if (!encoder.encode({bytes.data() + place.first * width, place.count, place.stride}, width,
                        indices.data() + place.first))
      return 0;
    const std::span<const std::byte> values = encoder.values();
    const auto latest = head.bytes().subspan(before, before_bytes);
    const bool is_same = std::equal(values.begin(), values.end(), latest.begin(), latest.end());
    head.write(static_cast<std::uint16_t>(is_same ? 0 : values.size() / width));
    if (is_same) continue;
    before = head.size();
    before_bytes = values.size();
    head.append(values);
  }
  if (head.size() + elements >= bytes.size()) return 0;
  std::memcpy(room(body_, bytes.size()).data(), head.bytes().data(), head.size());
  return head.size();
}

// Predictor and compressor, behind the `head_bytes` that are in body_ already.
ChunkCodec::Coded ChunkCodec::finish(ChunkRecord record, std::span<const std::byte> plain,
                                     std::size_t head_bytes, std::span<const std::byte> bytes,
                                     std::size_t row_elements) {
  const std::span<std::byte> space = room(body_, bytes.size());
  if (record.compressor != Compressor::kNone) {
    std::span<const std::byte> source = plain;
    if (row_elements > 0) {
      record.predictor = Predictor::kMedian;
      record.row_elements = static_cast<std::uint32_t>(row_elements);
      const std::span<std::byte> residuals = room(residuals_, plain.size());
      predict({reinterpret_cast<const std::uint8_t*>(plain.data()), plain.size()},
              stride_of(record), row_elements, as_numbers(residuals));
      source = residuals;
    }
    const std::size_t size = compressors_.compress(
        record.compressor, source, space.subspan(head_bytes, space.size() - head_bytes - 1));
    if (size > 0) return {record, space.first(head_bytes + size)};
    record.compressor = Compressor::kNone;
    record.predictor = Predictor::kNone;
    record.row_elements = 0;
  }
  if (head_bytes + plain.size() >= bytes.size())  // nothing gained: unchanged
    return {ChunkRecord{.decoded_bytes = record.decoded_bytes}, bytes};
  std::memcpy(space.data() + head_bytes, plain.data(), plain.size());
  return {record, space.first(head_bytes + plain.size())};
}

ChunkCodec::Coded ChunkCodec::encode(Coding coding, const ChunkLayout& layout, std::uint64_t offset,
                                     std::span<const std::byte> bytes, PaletteMemory& palettes) {
  ChunkRecord record{.decoded_bytes = static_cast<std::uint32_t>(bytes.size())};
  if (coding == Coding::kRaw || bytes.size() < 2) return {record, bytes};
  if (coding == Coding::kPalette || coding == Coding::kPaletteZstd) {
    ChunkRecord with_palette = record;
    const std::size_t head = encode_palette(layout, offset, bytes, palettes, with_palette);
    if (head > 0) {
      const bool squeeze = coding == Coding::kPaletteZstd;
      with_palette.compressor = squeeze ? Compressor::kZstd : Compressor::kNone;
      return finish(with_palette, std::span(plain_).first(bytes.size() / layout.element_bytes),
                    head, bytes, squeeze ? layout.row_elements : 0);
    }
    if (coding == Coding::kPalette) return {record, bytes};
  }
  record.compressor = coding == Coding::kLz4 ? Compressor::kLz4 : Compressor::kZstd;
  if (layout.element_bytes == 1) {
    record.channels = static_cast<std::uint8_t>(layout.is_planar ? 1 : layout.channels);
    return finish(record, bytes, 0, bytes, coding == Coding::kZstd ? layout.row_elements : 0);
  }
  record.transform = Transform::kShuffle;
  const std::span<std::byte> plain = room(plain_, bytes.size());
  shuffle(bytes, layout.element_bytes, plain);
  return finish(record, plain, 0, bytes, 0);
}

// ---- decoding
// ---------------------------------------------------------------------------------------

// The body without its compressor and predictor, in plain_ or unchanged.
Result<std::span<const std::byte>> ChunkCodec::plain_bytes(const ChunkRecord& record,
                                                           std::span<const std::byte> body,
                                                           std::size_t size_bytes) {
  const bool is_packed = record.compressor != Compressor::kNone;
  if (!is_packed && body.size() != size_bytes)
    return error(ErrorKind::kInvalid, "body ({} bytes) of a chunk must have {}", body.size(),
                 size_bytes);
  if (!is_packed && record.predictor == Predictor::kNone) return body;
  const std::span<std::byte> plain = room(plain_, size_bytes);
  if (is_packed) {
    OB_CHECK_OK(compressors_.decompress(record.compressor, body, plain));
  } else {
    std::memcpy(plain.data(), body.data(), body.size());
  }
  OB_CHECK_OK(undo_predictor(record, plain));
  return std::span<const std::byte>(plain);
}

Result<void> ChunkCodec::undo_predictor(const ChunkRecord& record, std::span<std::byte> plain) {
  if (record.predictor == Predictor::kNone) return {};
  const std::size_t stride = stride_of(record);
  if (record.row_elements < stride)
    return error(ErrorKind::kInvalid, "row ({} elements) of a chunk must have at least {}",
                 record.row_elements, stride);
  unpredict(as_numbers(plain), stride, record.row_elements);
  return {};
}

Result<void> ChunkCodec::decode_palette(const ChunkRecord& record, std::size_t width,
                                        std::span<const std::byte> body,
                                        std::span<std::byte> destination) {
  const std::size_t elements = destination.size() / width;
  if (!has_palette(width) || elements * width != destination.size() ||
      elements % record.channels != 0)
    return error(ErrorKind::kInvalid,
                 "chunk of {} bytes in {} channels must be whole elements of 2, 4 or 8 bytes, not "
                 "of {}",
                 destination.size(), record.channels, width);
  std::array<std::span<const std::byte>, kMaxChannels> values;
  ByteReader reader(body);
  for (std::size_t c = 0; c < record.channels; ++c) {
    const auto count = reader.read<std::uint16_t>();
    values[c] = count == 0 && c > 0 ? values[c - 1] : reader.take(count * width);
    if (!reader.ok() || values[c].empty() || count > kPaletteValues)
      return error(ErrorKind::kInvalid, "palette of {} values must be there, with 1 to {}", count,
                   kPaletteValues);
  }
  OB_TRY(const std::span<const std::byte> plain,
         plain_bytes(record, reader.take(reader.remaining()), elements));
  const auto* const indices = reinterpret_cast<const std::uint8_t*>(plain.data());
  for (std::size_t c = 0; c < record.channels; ++c) {
    const Place place = place_of(record, elements, c);
    if (!palette_decode(values[c], width, indices + place.first, place.count, place.stride,
                        destination.data() + place.first * width))
      return error(ErrorKind::kInvalid,
                   "index of a palette must be below its number of values ({})",
                   values[c].size() / width);
  }
  return {};
}

Result<void> ChunkCodec::decode(const ChunkRecord& record, std::size_t element_bytes,
                                std::span<const std::byte> body, std::span<std::byte> destination) {
  OB_CHECK(record.decoded_bytes == destination.size() && element_bytes > 0);
  if (record.transform == Transform::kPalette)
    return decode_palette(record, element_bytes, body, destination);
  if (record.transform == Transform::kShuffle) {
    OB_TRY(const std::span<const std::byte> plain, plain_bytes(record, body, destination.size()));
    unshuffle(plain, element_bytes, destination);
    return {};
  }
  if (record.compressor == Compressor::kNone) {
    OB_TRY(const std::span<const std::byte> plain, plain_bytes(record, body, destination.size()));
    std::memcpy(destination.data(), plain.data(), plain.size());
    return {};
  }
  OB_CHECK_OK(compressors_.decompress(record.compressor, body, destination));
  return undo_predictor(record, destination);
}

}  // namespace outboard::wire
