// SPDX-License-Identifier: Apache-2.0
#include "wire/coding/shuffle.h"

namespace outboard::wire {
namespace {

// Fixed widths: the loops have no branch and the compiler turns them into vector code.
template <std::size_t Width>
void shuffle_fixed(const std::byte* source, std::size_t count, std::byte* destination) {
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t b = 0; b < Width; ++b) destination[b * count + i] = source[i * Width + b];
}

template <std::size_t Width>
void unshuffle_fixed(const std::byte* source, std::size_t count, std::byte* destination) {
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t b = 0; b < Width; ++b) destination[i * Width + b] = source[b * count + i];
}

}  // namespace

void shuffle(std::span<const std::byte> source, std::size_t width,
             std::span<std::byte> destination) {
  const std::size_t count = source.size() / width, whole = count * width;
  switch (width) {
    case 2:
      shuffle_fixed<2>(source.data(), count, destination.data());
      break;
    case 4:
      shuffle_fixed<4>(source.data(), count, destination.data());
      break;
    case 8:
      shuffle_fixed<8>(source.data(), count, destination.data());
      break;
    default:
      for (std::size_t b = 0; b < width; ++b)
        for (std::size_t i = 0; i < count; ++i) destination[b * count + i] = source[i * width + b];
  }
  for (std::size_t i = whole; i < source.size(); ++i) destination[i] = source[i];
}

void unshuffle(std::span<const std::byte> source, std::size_t width,
               std::span<std::byte> destination) {
  const std::size_t count = source.size() / width, whole = count * width;
  switch (width) {
    case 2:
      unshuffle_fixed<2>(source.data(), count, destination.data());
      break;
    case 4:
      unshuffle_fixed<4>(source.data(), count, destination.data());
      break;
    case 8:
      unshuffle_fixed<8>(source.data(), count, destination.data());
      break;
    default:
      for (std::size_t b = 0; b < width; ++b)
        for (std::size_t i = 0; i < count; ++i) destination[i * width + b] = source[b * count + i];
  }
  for (std::size_t i = whole; i < source.size(); ++i) destination[i] = source[i];
}

}  // namespace outboard::wire
