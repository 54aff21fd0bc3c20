// SPDX-License-Identifier: Apache-2.0
#include "wire/coding/speeds.h"

#include <algorithm>
#include <vector>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/sha256.h"

namespace outboard::wire {
namespace {

constexpr std::int64_t kSide = 192;  // of the synthetic picture: 144 KiB of floats
constexpr std::uint32_t kAllCompressors = 1u << 0 | 1u << 1 | 1u << 2;

// The shortest of three: another program that has the processor in one of them says nothing of the
// coding, and what is measured here decides what a session's first tensors travel in.
std::uint64_t time_ns(const auto& work) {
  Nanoseconds shortest = Nanoseconds::max();
  for (int i = 0; i < 3; ++i) {
    const Nanoseconds begin = Clock::monotonic().now();
    work();
    shortest = std::min(shortest, Clock::monotonic().now() - begin);
  }
  return static_cast<std::uint64_t>(shortest.count());
}

// A plane of 8-bit pixels, smooth with a little noise, as floats.
std::vector<float> synthetic_picture() {
  std::vector<float> plane(kSide * kSide);
  std::uint32_t noise = 1;
  for (std::int64_t y = 0; y < kSide; ++y) {
    for (std::int64_t x = 0; x < kSide; ++x) {
      noise = noise * 1664525 + 1013904223;  // Numerical Recipes' generator
      const auto pixel = (2 * x + y + (noise >> 29)) % 256;
      plane[static_cast<std::size_t>(y * kSide + x)] = static_cast<float>(pixel) / 255.0F - 0.45F;
    }
  }
  return plane;
}

}  // namespace

void SpeedMeter::Speed::add(std::uint64_t bytes, std::uint64_t time_ns) {
  if (bytes < 4096) return;  // the clock's own cost
  const double now = static_cast<double>(bytes) * 1e9 / static_cast<double>(time_ns + 1);
  const double before = bytes_per_s.load(std::memory_order_relaxed);
  // Times are averaged, not rates. A lost update of another thread is no harm.
  bytes_per_s.store(before == 0 ? now : 1 / (0.9 / before + 0.1 / now), std::memory_order_relaxed);
}

void SpeedMeter::calibrate() {
  std::call_once(calibrated_, [this] {
    const std::vector<float> plane = synthetic_picture();
    const auto bytes = std::as_bytes(std::span(plane));
    const ChunkLayout layout = layout_of(
        {.type = ElementType::kFloat, .dims = {1, 1, kSide, kSide}, .data_bytes = bytes.size()});
    std::vector<std::byte> decoded(bytes.size());
    ChunkCodec codec;
    PaletteMemory palettes;
    for (std::size_t i = 1; i < kCodings; ++i) {
      const auto coding = static_cast<Coding>(i);
      ChunkCodec::Coded coded;
      (void)codec.encode(coding, layout, 0, bytes, palettes);  // warms tables and contexts up
      const std::uint64_t encode_ns =
          time_ns([&] { coded = codec.encode(coding, layout, 0, bytes, palettes); });
      const std::vector<std::byte> body(coded.body.begin(), coded.body.end());
      const std::uint64_t decode_ns =
          time_ns([&] { (void)codec.decode(coded.record, sizeof(float), body, decoded); });
      encode_[i].add(bytes.size(), encode_ns);
      decode_[i].add(bytes.size(), decode_ns);
    }
    hash_.add(bytes.size(), time_ns([&] { (void)sha256(bytes); }));
    first_ = current();
  });
}

void SpeedMeter::encoded(Coding coding, std::uint64_t bytes, std::uint64_t time_ns) {
  encode_[static_cast<std::size_t>(coding)].add(bytes, time_ns);
}

void SpeedMeter::decoded(Coding coding, std::uint64_t bytes, std::uint64_t time_ns) {
  decode_[static_cast<std::size_t>(coding)].add(bytes, time_ns);
}

void SpeedMeter::hashed(std::uint64_t bytes, std::uint64_t time_ns) { hash_.add(bytes, time_ns); }

CodecSpeeds SpeedMeter::first_speeds() {
  calibrate();
  return first_;
}

CodecSpeeds SpeedMeter::speeds() {
  calibrate();
  return current();
}

CodecSpeeds SpeedMeter::current() const {
  CodecSpeeds speeds;
  for (std::size_t i = 0; i < kCodings; ++i)
    speeds[i] = {encode_[i].bytes_per_s.load(std::memory_order_relaxed),
                 decode_[i].bytes_per_s.load(std::memory_order_relaxed)};
  return speeds;
}

double SpeedMeter::hash_bytes_per_s() {
  calibrate();
  return hash_.bytes_per_s.load(std::memory_order_relaxed);
}

CodingOffer make_offer(SpeedMeter& meter) {
  CodingOffer offer{.compressors = kAllCompressors};
  const CodecSpeeds speeds = meter.first_speeds();
  for (std::size_t i = 1; i < kCodings; ++i)
    offer.decode_mb_per_s[i] =
        static_cast<std::uint32_t>(std::clamp(speeds[i].decode_bytes_per_s / 1e6, 1.0, 1e6));
  return offer;
}

std::string encode(const CodingOffer& offer) {
  ByteWriter writer;
  writer.write(offer.compressors);
  for (std::size_t i = 1; i < kCodings; ++i) writer.write(offer.decode_mb_per_s[i]);
  return {reinterpret_cast<const char*>(writer.bytes().data()), writer.size()};
}

Result<CodingOffer> decode_coding_offer(std::span<const std::byte> data) {
  ByteReader reader(data);
  CodingOffer offer{.compressors = reader.read<std::uint32_t>()};
  for (std::size_t i = 1; i < kCodings; ++i)
    offer.decode_mb_per_s[i] = reader.read<std::uint32_t>();
  if (!reader.ok() || reader.remaining() != 0)
    return error(ErrorKind::kInvalid,
                 "data of the feature tensor coding must have 20 bytes, not {}", data.size());
  return offer;
}

CodecSpeeds together(const CodecSpeeds& ours, const CodingOffer& theirs) {
  const auto decodes = [&](Compressor kind) {
    return (theirs.compressors >> static_cast<unsigned>(kind) & 1u) != 0;
  };
  CodecSpeeds speeds;
  for (std::size_t i = 1; i < kCodings; ++i) {
    const auto coding = static_cast<Coding>(i);
    const Compressor needs = coding == Coding::kPalette ? Compressor::kNone
                             : coding == Coding::kLz4   ? Compressor::kLz4
                                                        : Compressor::kZstd;
    if (decodes(needs)) speeds[i] = {ours[i].encode_bytes_per_s, theirs.decode_mb_per_s[i] * 1e6};
  }
  return speeds;
}

}  // namespace outboard::wire
