// SPDX-License-Identifier: Apache-2.0
// How fast this process codes, decodes and hashes: measured once, a millisecond in all, on a
// synthetic picture, and followed with every chunk from then on, so that a processor that is busy
// or throttled counts as slow. Thread-safe. Also the speeds as two peers tell each other.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

#include "base/result.h"
#include "wire/coding/choose.h"

namespace outboard::wire {

class SpeedMeter {
 public:
  // The first call measures; later ones return at once. The others imply it.
  void calibrate();
  void encoded(Coding coding, std::uint64_t bytes, std::uint64_t time_ns);
  void decoded(Coding coding, std::uint64_t bytes, std::uint64_t time_ns);
  void hashed(std::uint64_t bytes, std::uint64_t time_ns);

  CodecSpeeds speeds();
  // The speeds of decoding as they were first: a peer that comes again is told the same.
  CodecSpeeds first_speeds();
  double hash_bytes_per_s();

 private:
  struct Speed {
    std::atomic<double> bytes_per_s{0};
    void add(std::uint64_t bytes, std::uint64_t time_ns);
  };
  CodecSpeeds current() const;
  std::once_flag calibrated_;
  std::array<Speed, kCodings> encode_, decode_;
  Speed hash_;
  CodecSpeeds first_;
};

// Data of the feature "tensor coding": which compressors a side decodes, and how fast.
struct CodingOffer {
  std::uint32_t compressors = 0;                          // bit n: Compressor of number n
  std::array<std::uint32_t, kCodings> decode_mb_per_s{};  // 0: not at all; of kRaw: unused
  bool operator==(const CodingOffer&) const = default;
};
CodingOffer make_offer(SpeedMeter& meter);
std::string encode(const CodingOffer& offer);  // 20 bytes
Result<CodingOffer> decode_coding_offer(std::span<const std::byte> data);
// Our coding with the other side's decoding; 0 for what it does not decode.
CodecSpeeds together(const CodecSpeeds& ours, const CodingOffer& theirs);

}  // namespace outboard::wire
