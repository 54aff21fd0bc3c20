// SPDX-License-Identifier: Apache-2.0
#include "wire/coding/predict.h"

#include <algorithm>

namespace outboard::wire {
namespace {

// The median of left, above and left + above - corner. Branches would be guesses: all of it is
// minima and maxima.
inline std::uint8_t median(int left, int above, int corner) {
  const int low = std::min(left, above), high = std::max(left, above);
  return static_cast<std::uint8_t>(std::clamp(left + above - corner, low, high));
}

inline std::uint8_t wrapped(int value) { return static_cast<std::uint8_t>(value); }

}  // namespace

void predict(std::span<const std::uint8_t> pixels, std::size_t stride, std::size_t row,
             std::span<std::uint8_t> residuals) {
  const std::uint8_t* const p = pixels.data();
  std::uint8_t* const r = residuals.data();
  const std::size_t size = pixels.size(), first_row = std::min(row, size);
  std::copy_n(p, std::min(stride, first_row), r);
  for (std::size_t i = stride; i < first_row; ++i) r[i] = wrapped(p[i] - p[i - stride]);
  for (std::size_t start = row; start < size; start += row) {
    const std::size_t end = std::min(start + row, size), inner = std::min(start + stride, end);
    for (std::size_t i = start; i < inner; ++i) r[i] = wrapped(p[i] - p[i - row]);
    for (std::size_t i = inner; i < end; ++i)
      r[i] = wrapped(p[i] - median(p[i - stride], p[i - row], p[i - row - stride]));
  }
}

namespace {

// One row below another. What does not depend on the left neighbour, the end of a chain of
// dependent operations, is worked out beside it: with t = above - corner the median is
// max(left + min(t, 0), min(above, left + max(t, 0))).
inline int next_pixel(int residual, int left, int above, int corner) {
  const int t = above - corner;
  return (residual + std::max(left + std::min(t, 0), std::min(above, left + std::max(t, 0)))) & 255;
}

// The chains of up to four interleaved channels run beside each other, their ends in registers.
template <std::size_t Stride>
void unpredict_row(std::uint8_t* p, std::size_t count, std::size_t row) {
  int left[Stride];
  for (std::size_t c = 0; c < Stride; ++c) left[c] = *(p + c - Stride);
  std::size_t i = 0;
  for (; i + Stride <= count; i += Stride) {
    for (std::size_t c = 0; c < Stride; ++c) {
      std::uint8_t* const at = p + i + c;
      left[c] = next_pixel(*at, left[c], *(at - row), *(at - row - Stride));
      *at = static_cast<std::uint8_t>(left[c]);
    }
  }
  for (; i < count; ++i)
    p[i] = static_cast<std::uint8_t>(
        next_pixel(p[i], *(p + i - Stride), *(p + i - row), *(p + i - row - Stride)));
}

void unpredict_row(std::uint8_t* p, std::size_t count, std::size_t row, std::size_t stride) {
  switch (stride) {
    case 1:
      return unpredict_row<1>(p, count, row);
    case 2:
      return unpredict_row<2>(p, count, row);
    case 3:
      return unpredict_row<3>(p, count, row);
    case 4:
      return unpredict_row<4>(p, count, row);
    default:
      for (std::size_t i = 0; i < count; ++i)
        p[i] = static_cast<std::uint8_t>(
            next_pixel(p[i], *(p + i - stride), *(p + i - row), *(p + i - row - stride)));
  }
}

}  // namespace

void unpredict(std::span<std::uint8_t> bytes, std::size_t stride, std::size_t row) {
  std::uint8_t* const p = bytes.data();
  const std::size_t size = bytes.size(), first_row = std::min(row, size);
  for (std::size_t i = stride; i < first_row; ++i) p[i] = wrapped(p[i] + p[i - stride]);
  for (std::size_t start = row; start < size; start += row) {
    const std::size_t end = std::min(start + row, size), inner = std::min(start + stride, end);
    for (std::size_t i = start; i < inner; ++i) p[i] = wrapped(p[i] + p[i - row]);
    unpredict_row(p + inner, end - inner, row, stride);
  }
}

}  // namespace outboard::wire
