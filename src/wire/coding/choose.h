// SPDX-License-Identifier: Apache-2.0
// Which coding a tensor travels in: the one that has it at the other side soonest, and none unless
// that is clearly sooner than the bytes as they are. Pure; thread-safe. Times in seconds, rates in
// bytes per second.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/result.h"
#include "wire/coding/codec.h"

namespace outboard::wire {

// `--coding`: auto chooses; the others are for tests, for comparisons, and for who knows better.
enum class CodingMode : std::uint8_t { kAuto = 0, kOff = 1, kPalette = 2, kLz4 = 3, kZstd = 4 };
Result<CodingMode> parse_coding_mode(std::string_view text);  // "auto", "off", "palette", ...
std::string_view name_of(CodingMode mode);
inline constexpr std::uint8_t kCodingModes = 5;

// Decoded bytes per second; a coding that is not to be had is 0.
struct CodecSpeed {
  double encode_bytes_per_s = 0, decode_bytes_per_s = 0;
};
using CodecSpeeds = std::array<CodecSpeed, kCodings>;

// What is known of a tensor. `ratio`: of the bytes that travel to those of the tensor, one a
// coding; nullopt where it does not hold or was not tried.
struct TensorFacts {
  std::uint64_t size_bytes = 0;
  std::size_t chunk_bytes = 1;
  std::array<std::optional<double>, kCodings> ratio{};
};

// Codings are taken when they save at least this share of the time: what the model does not know
// (other work on the processors, the speeds' own error) must not make a Run slower.
inline constexpr double kLeastGain = 0.1;
inline constexpr double kLeastGain_s = 50e-6;
// A frame more, its system calls on both sides.
inline constexpr double kChunkOverhead_s = 15e-6;

// Coding, sending and decoding work at the same time on different chunks: the slowest of the three
// takes its whole time, the others one chunk's. `link_bytes_per_s` may be infinite.
double transfer_time_s(Coding coding, double link_bytes_per_s, const TensorFacts& tensor,
                       const CodecSpeed& speed);

// kRaw for an infinite or unknown (not positive) rate.
Coding choose_coding(double link_bytes_per_s, const TensorFacts& tensor, const CodecSpeeds& speeds);
// Whether a coding could be chosen at all if the tensor shrank to `best_ratio`; else it is not
// worth a try.
bool worth_trying(Coding coding, double best_ratio, double link_bytes_per_s,
                  const TensorFacts& tensor, const CodecSpeeds& speeds);
// Whether hashing the tensor is worth while when the hash may travel instead, with some chance,
// of what else takes `transfer_s`.
bool worth_hashing(double transfer_s, std::uint64_t size_bytes, double hash_bytes_per_s);

}  // namespace outboard::wire
