// SPDX-License-Identifier: Apache-2.0
// How a tensor is cut into chunks. Chunks are small enough that coding, sending and decoding
// overlap, and large enough that a palette of 1 KiB does not matter; they end with a row, so that
// the predictor works, and with a plane, because another channel may have another palette.
#include <algorithm>

#include "wire/coding/codec.h"

namespace outboard::wire {
namespace {

constexpr std::size_t kTargetBytes = 512u << 10;
constexpr std::int64_t kMostInterleaved = 4;  // RGBA

std::size_t rounded_down(std::size_t size, std::size_t step) {
  return std::max(size / step * step, step);
}

// Rows of `row_bytes` in `whole_bytes`: equal pieces of whole rows, each at most the target.
std::size_t piece_of_rows(std::size_t whole_bytes, std::size_t row_bytes) {
  const std::size_t pieces = (whole_bytes + kTargetBytes - 1) / kTargetBytes;
  const std::size_t rows = whole_bytes / row_bytes;
  return (rows + pieces - 1) / pieces * row_bytes;
}

void lay_out_planes(ChunkLayout& layout, std::size_t columns, std::size_t rows,
                    std::int64_t channels) {
  const std::size_t row_bytes = columns * layout.element_bytes, plane_bytes = rows * row_bytes;
  if (row_bytes > kTargetBytes) return;
  layout.row_elements = columns;
  layout.picture_channels =
      channels >= 1 && channels <= kMostInterleaved ? static_cast<std::size_t>(channels) : 1;
  if (2 * plane_bytes > kTargetBytes) {
    layout.plane_bytes = plane_bytes;
    layout.chunk_bytes = piece_of_rows(plane_bytes, row_bytes);
  } else if (channels <= kMostInterleaved) {  // whole planes, each with its palette
    layout.plane_bytes = plane_bytes;
    layout.is_planar = true;
    layout.channels = std::min(kTargetBytes / plane_bytes, kMaxChannels);
    layout.chunk_bytes = layout.channels * plane_bytes;
  } else {  // a feature map
    layout.chunk_bytes = rounded_down(kTargetBytes, row_bytes);
  }
}

}  // namespace

ChunkLayout layout_of(const TensorHeader& header) {
  ChunkLayout layout;
  const unsigned bits = bits_of(header.type);
  layout.element_bytes = bits < 8 ? 1 : bits / 8;
  layout.chunk_bytes = rounded_down(kTargetBytes, layout.element_bytes);
  const std::size_t rank = header.dims.size();
  if (rank < 3 || bits < 8 || header.data_bytes == 0) return layout;
  const std::int64_t last = header.dims[rank - 1], before = header.dims[rank - 2];
  const auto product = static_cast<std::uint64_t>(last) * static_cast<std::uint64_t>(before);
  if (last >= 2 && last <= kMostInterleaved &&
      before > kMostInterleaved) {  // ..., columns, channels
    layout.channels = layout.picture_channels = static_cast<std::size_t>(last);
    const std::size_t row_bytes = product * layout.element_bytes;
    layout.chunk_bytes = rounded_down(kTargetBytes, row_bytes <= kTargetBytes
                                                        ? row_bytes
                                                        : layout.channels * layout.element_bytes);
    if (row_bytes <= kTargetBytes) layout.row_elements = product;
  } else {  // ..., channels, rows, columns
    lay_out_planes(layout, static_cast<std::size_t>(last), static_cast<std::size_t>(before),
                   header.dims[rank - 3]);
  }
  return layout;
}

std::size_t chunk_size(const ChunkLayout& layout, std::uint64_t offset, std::uint64_t total) {
  std::uint64_t left = total - offset;
  if (layout.plane_bytes > 0 && !layout.is_planar)
    left = std::min(left, layout.plane_bytes - offset % layout.plane_bytes);
  return static_cast<std::size_t>(std::min<std::uint64_t>(left, layout.chunk_bytes));
}

}  // namespace outboard::wire
