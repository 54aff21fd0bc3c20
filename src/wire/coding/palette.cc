// SPDX-License-Identifier: Apache-2.0
#include "wire/coding/palette.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/check.h"

namespace outboard::wire {
namespace {

// 2^14 slots: a random multiplier places 256 values without a collision about one time in seven
// (e^-(256^2 / 2 / 2^14)), so a perfect one is found in a few tries, and the table stays in the
// first-level cache.
constexpr unsigned kTableBits = 14;
constexpr unsigned kTries = 400;
constexpr std::size_t kBlock = 1024;  // elements between two looks at whether it still holds

inline std::size_t hash(std::uint64_t bits, std::uint64_t multiplier) {
  return static_cast<std::size_t>((bits * multiplier) >> (64 - kTableBits));
}

template <typename T>
inline T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

std::uint64_t next_random(std::uint64_t& state) {  // SplitMix64 (Steele, Lea, Flood 2014)
  std::uint64_t z = (state += 0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// Bit patterns of IEEE numbers, as unsigned integers in the order of the numbers.
template <typename T>
T ordered(T bits) {
  constexpr T kSign = T{1} << (8 * sizeof(T) - 1);
  return static_cast<T>((bits & kSign) != 0 ? ~bits : bits | kSign);
}

// Distinct values as they come, up to 256.
template <typename T>
class Distinct {
 public:
  bool add(T value) {  // false: one too many
    std::size_t at = static_cast<std::size_t>((value * 0x9E3779B97F4A7C15u) >> 54);
    for (; used_[at]; at = (at + 1) % kSlots)
      if (slots_[at] == value) return true;
    if (values.size() == kPaletteValues) return false;
    used_[at] = true;
    slots_[at] = value;
    values.push_back(value);
    return true;
  }
  std::vector<T> values;

 private:
  static constexpr std::size_t kSlots = 1024;
  std::array<T, kSlots> slots_{};
  std::array<bool, kSlots> used_{};
};

}  // namespace

template <typename T>
bool PaletteEncoder::map(const Channel& channel, std::uint8_t* indices) const {
  const std::uint8_t* const table = table_.get();
  const std::uint64_t* const values = values_.data();
  const std::uint64_t multiplier = multiplier_;
  const std::size_t stride = channel.stride;
  for (std::size_t start = 0; start < channel.count; start += kBlock) {
    const std::size_t end = std::min(start + kBlock, channel.count);
    std::uint64_t wrong = 0;
    for (std::size_t i = start; i < end; ++i) {
      const auto bits = static_cast<std::uint64_t>(load<T>(channel.data + i * stride * sizeof(T)));
      const std::uint8_t index = table[hash(bits, multiplier)];
      wrong |= values[index] ^ bits;
      indices[i * stride] = index;
    }
    if (wrong != 0) return false;
  }
  return true;
}

template <typename T>
bool PaletteEncoder::collect(const Channel& channel, bool keep_known) {
  Distinct<T> distinct;
  if (keep_known)
    for (std::size_t i = 0; i < count_; ++i) distinct.add(static_cast<T>(values_[i]));
  std::optional<T> last;
  for (std::size_t i = 0; i < channel.count; ++i) {
    const T bits = load<T>(channel.data + i * channel.stride * sizeof(T));
    if (last == bits) continue;
    last = bits;
    if (!distinct.add(bits)) return false;
  }
  return build(distinct.values);
}

template <typename T>
bool PaletteEncoder::learn(const Channel& channel) {
  // With what is known already, so that the table serves the next picture, too; else alone.
  if (count_ > 0 && collect<T>(channel, true)) return true;
  return collect<T>(channel, false);
}

template <typename T>
bool PaletteEncoder::build(std::vector<T>& values) {
  std::sort(values.begin(), values.end(), [](T a, T b) { return ordered(a) < ordered(b); });
  if (!table_) table_ = std::make_unique<std::uint8_t[]>(std::size_t{1} << kTableBits);
  std::array<bool, std::size_t{1} << kTableBits> taken;
  std::uint64_t state = values.size();
  for (unsigned tries = 0; tries < kTries; ++tries) {
    const std::uint64_t multiplier = next_random(state) | 1;
    taken.fill(false);
    bool perfect = true;
    for (const T value : values) {
      bool& slot = taken[hash(value, multiplier)];
      if (slot) {
        perfect = false;
        break;
      }
      slot = true;
    }
    if (!perfect) continue;
    multiplier_ = multiplier;
    count_ = values.size();
    values_.assign(kPaletteValues, static_cast<std::uint64_t>(values.back()));
    packed_.resize(count_ * sizeof(T));
    std::memcpy(packed_.data(), values.data(), packed_.size());
    for (std::size_t i = 0; i < count_; ++i) {
      values_[i] = values[i];
      table_[hash(values[i], multiplier)] = static_cast<std::uint8_t>(i);
    }
    return true;
  }
  return false;  // values that no multiplier separates: as if there were too many
}

template <typename T>
bool PaletteEncoder::encode_as(const Channel& channel, std::uint8_t* indices) {
  if (width_ != sizeof(T)) count_ = 0;
  width_ = sizeof(T);
  if (count_ > 0 && map<T>(channel, indices)) return true;
  return learn<T>(channel) && map<T>(channel, indices);
}

bool PaletteEncoder::encode(const Channel& channel, std::size_t width, std::uint8_t* indices) {
  switch (width) {
    case 2:
      return encode_as<std::uint16_t>(channel, indices);
    case 4:
      return encode_as<std::uint32_t>(channel, indices);
    case 8:
      return encode_as<std::uint64_t>(channel, indices);
    default:
      return false;
  }
}

std::span<const std::byte> PaletteEncoder::values() const { return packed_; }

namespace {

template <typename T>
void decode_as(std::span<const std::byte> packed, const std::uint8_t* indices, std::size_t count,
               std::size_t stride, std::byte* destination) {
  std::array<T, kPaletteValues> values{};
  std::memcpy(values.data(), packed.data(), packed.size());
  if (stride == 1) {
    for (std::size_t i = 0; i < count; ++i)
      std::memcpy(destination + i * sizeof(T), &values[indices[i]], sizeof(T));
    return;
  }
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(destination + i * stride * sizeof(T), &values[indices[i * stride]], sizeof(T));
}

}  // namespace

bool palette_decode(std::span<const std::byte> values, std::size_t width,
                    const std::uint8_t* indices, std::size_t count, std::size_t stride,
                    std::byte* destination) {
  const std::size_t known = values.size() / width;
  OB_CHECK(known >= 1 && known <= kPaletteValues && known * width == values.size());
  if (known < kPaletteValues) {
    std::uint8_t highest = 0;
    for (std::size_t i = 0; i < count; ++i) highest = std::max(highest, indices[i * stride]);
    if (highest >= known) return false;
  }
  switch (width) {
    case 2:
      decode_as<std::uint16_t>(values, indices, count, stride, destination);
      return true;
    case 4:
      decode_as<std::uint32_t>(values, indices, count, stride, destination);
      return true;
    case 8:
      decode_as<std::uint64_t>(values, indices, count, stride, destination);
      return true;
    default:
      return false;
  }
}

}  // namespace outboard::wire
