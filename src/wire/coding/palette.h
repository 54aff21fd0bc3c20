// SPDX-License-Identifier: Apache-2.0
// At most 256 distinct values, found at the speed of memory and turned into a byte an element.
//
// A picture of 8 bits a channel has at most 256 distinct bit patterns a channel after any
// normalisation. Elements are bit patterns of 2, 4 or 8 bytes here, never numbers: NaN payloads
// and -0 are values like any other.
//
// Encoding is optimistic: `map` looks each element up in a perfect hash table (one multiplication,
// two loads, no branch) and says at the next block's end that one was not there; only then `learn`
// collects the distinct values and the table is built anew. Pictures of the same source have the
// same values, so from the second one on there is one pass. Values are sorted as numbers, so that
// neighbouring indices are neighbouring values and the predictor works on them.
//
// An object belongs to one thread at a time. No errors but "does not hold".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace outboard::wire {

inline constexpr std::size_t kPaletteValues = 256;

// Elements that lie `stride` elements apart: a plane (1), or one of interleaved channels.
struct Channel {
  const std::byte* data = nullptr;  // the first element
  std::size_t count = 0;
  std::size_t stride = 1;
};

class PaletteEncoder {
 public:
  // Writes the index of every element to indices[0], indices[stride], ...; false: more than 256
  // distinct values, noticed after about as many of them. `width` is 2, 4 or 8.
  bool encode(const Channel& channel, std::size_t width, std::uint8_t* indices);
  // The values that the indices of the last encode() mean, `width` bytes each; 1 to 256 of them.
  std::span<const std::byte> values() const;

 private:
  template <typename T>
  bool encode_as(const Channel& channel, std::uint8_t* indices);
  template <typename T>
  bool map(const Channel& channel, std::uint8_t* indices) const;
  template <typename T>
  bool learn(const Channel& channel);
  template <typename T>
  bool collect(const Channel& channel, bool keep_known);
  template <typename T>
  bool build(std::vector<T>& values);

  std::size_t width_ = 0, count_ = 0;
  std::uint64_t multiplier_ = 0;
  std::unique_ptr<std::uint8_t[]> table_;  // hash -> index
  std::vector<std::uint64_t> values_;      // kPaletteValues; sorted; the unused repeat the last
  std::vector<std::byte> packed_;          // the values as they travel
};

// The inverse for one channel: destination[0], [stride], ... of `width` bytes each, in elements.
// False: an index is not below the number of values.
bool palette_decode(std::span<const std::byte> values, std::size_t width,
                    const std::uint8_t* indices, std::size_t count, std::size_t stride,
                    std::byte* destination);

}  // namespace outboard::wire
