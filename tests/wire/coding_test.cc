// SPDX-License-Identifier: Apache-2.0
// The codecs of src/wire/coding: the same bits come back whatever they are, and bytes that a peer
// made up are refused.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>

#include "base/limits.h"
#include "tests/wire/chunks.h"
#include "wire/coding/codec.h"
#include "wire/coding/predict.h"
#include "wire/coding/shuffle.h"

namespace outboard::wire {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::array kAll = {Coding::kRaw, Coding::kPalette, Coding::kPaletteZstd, Coding::kLz4,
                             Coding::kZstd};

TensorHeader header_of(ElementType type, std::vector<std::int64_t> dims) {
  TensorHeader header{.type = type, .dims = std::move(dims), .data_bytes = 0};
  header.data_bytes = size_bytes(type, header.dims).value();
  return header;
}

template <typename T>
Bytes bytes_of_values(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

// All chunks of a tensor there and back; the bytes of the bodies.
std::size_t round_trip(Coding coding, const TensorHeader& header, const Bytes& data) {
  const ChunkLayout layout = layout_of(header);
  ChunkCodec sender, receiver;
  PaletteMemory palettes;
  Bytes decoded(data.size());
  std::size_t coded_bytes = 0;
  for (std::size_t offset = 0; offset < data.size();) {
    const std::size_t size = chunk_size(layout, offset, data.size());
    EXPECT_GT(size, 0u);
    EXPECT_LE(size, limits::kTensorChunkBytes);
    const auto coded =
        sender.encode(coding, layout, offset, std::span(data).subspan(offset, size), palettes);
    EXPECT_LE(coded.body.size(), size);
    const auto record = decode_chunk_record(encode(coded.record), coded.body.size());
    EXPECT_TRUE(record) << record.error().message;
    EXPECT_EQ(*record, coded.record);
    const auto done = receiver.decode(*record, layout.element_bytes, coded.body,
                                      std::span(decoded).subspan(offset, size));
    EXPECT_TRUE(done) << done.error().message;
    coded_bytes += coded.body.size();
    offset += size;
  }
  EXPECT_EQ(std::memcmp(decoded.data(), data.data(), data.size()), 0) << name_of(coding);
  return coded_bytes;
}

// A picture of 8-bit pixels, smooth with noise, normalised as programs do.
std::vector<float> picture(std::size_t channels, std::size_t rows, std::size_t columns,
                           bool is_interleaved) {
  std::mt19937 random(7);
  std::vector<float> values(channels * rows * columns);
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t i = 0; i < rows * columns; ++i) {
      const auto pixel = static_cast<float>((i % columns + i / columns + random() % 9) % 256);
      const float normal = (pixel / 255.0F - 0.4F - 0.03F * static_cast<float>(c)) / 0.22F;
      values[is_interleaved ? i * channels + c : c * rows * columns + i] = normal;
    }
  }
  return values;
}

TEST(Palette, APictureIsFourTimesSmaller) {
  for (const bool is_interleaved : {false, true}) {
    const auto data = bytes_of_values(picture(3, 368, 656, is_interleaved));
    const auto header = is_interleaved ? header_of(ElementType::kFloat, {1, 368, 656, 3})
                                       : header_of(ElementType::kFloat, {1, 3, 368, 656});
    EXPECT_LT(round_trip(Coding::kPalette, header, data), data.size() * 0.257);
    EXPECT_LT(round_trip(Coding::kPaletteZstd, header, data), data.size() * 0.2);
  }
}

TEST(Palette, SmallPlanesShareAChunkAndKeepTheirOwnPalettes) {
  const auto header = header_of(ElementType::kFloat, {2, 3, 48, 320});
  auto one = picture(3, 48, 320, false), two = one;
  one.insert(one.end(), two.begin(), two.end());
  const Bytes data = bytes_of_values(one);
  EXPECT_EQ(chunk_size(layout_of(header), 0, data.size()), data.size());
  EXPECT_LT(round_trip(Coding::kPalette, header, data), data.size() * 0.27);
}

TEST(Palette, BitsNotNumbers) {
  // Both zeros, both infinities, and NaNs that differ in their payloads alone.
  std::vector<std::uint32_t> bits = {0x00000000, 0x80000000, 0x7F800000, 0xFF800000,
                                     0x7FC00000, 0x7FC00001, 0x7F800001, 0xFFFFFFFF};
  for (int i = 0; i < 4096; ++i) bits.push_back(bits[static_cast<std::size_t>(i * 5 + i / 7) % 8]);
  const auto header = header_of(ElementType::kFloat, {1, 1, 1, 4104});
  EXPECT_LT(round_trip(Coding::kPalette, header, bytes_of_values(bits)), 4104u + 64);
}

TEST(Palette, ExactlyAsManyValuesAsFit) {
  for (const std::uint32_t distinct : {1u, 2u, 255u, 256u, 257u, 5000u}) {
    std::vector<std::uint32_t> bits(20'000);
    for (std::uint32_t i = 0; i < bits.size(); ++i) bits[i] = i % distinct * 0x01010107;
    const auto header = header_of(ElementType::kFloat, {1, 20'000});
    const std::size_t size = round_trip(Coding::kPalette, header, bytes_of_values(bits));
    if (distinct <= 256) {
      EXPECT_EQ(size, 20'000 + 2 + 4 * distinct);
    } else {
      EXPECT_EQ(size, 80'000u);
    }
  }
}

TEST(Palette, LearnsAnewWhereTheValuesChange) {
  PaletteEncoder encoder;
  std::vector<std::uint8_t> indices(3000);
  for (std::uint32_t turn = 0; turn < 5; ++turn) {
    std::vector<std::uint32_t> bits(3000);
    for (std::uint32_t i = 0; i < bits.size(); ++i) bits[i] = turn * 1000 + i % 200;
    const auto bytes = std::as_bytes(std::span(bits));
    ASSERT_TRUE(encoder.encode({bytes.data(), bits.size(), 1}, 4, indices.data()));
    std::vector<std::uint32_t> back(3000);
    ASSERT_TRUE(palette_decode(encoder.values(), 4, indices.data(), 3000, 1,
                               std::as_writable_bytes(std::span(back)).data()));
    EXPECT_EQ(back, bits);
  }
}

TEST(Palette, ValuesAreInTheOrderOfTheNumbers) {
  const std::vector<float> values = {3.0F, -2.0F, 0.0F, -0.0F, -1.5F, 100.0F, -100.0F};
  std::vector<std::uint8_t> indices(values.size());
  PaletteEncoder encoder;
  ASSERT_TRUE(encoder.encode({std::as_bytes(std::span(values)).data(), values.size(), 1}, 4,
                             indices.data()));
  EXPECT_EQ(indices, (std::vector<std::uint8_t>{5, 1, 4, 3, 2, 6, 0}));
}

TEST(Palette, AnIndexWithoutAValueIsRefused) {
  const std::vector<std::uint32_t> values = {1, 2, 3};
  const std::vector<std::uint8_t> good = {0, 1, 2}, bad = {0, 3, 1};
  std::vector<std::uint32_t> out(3);
  const auto packed = std::as_bytes(std::span(values));
  auto* const to = std::as_writable_bytes(std::span(out)).data();
  EXPECT_TRUE(palette_decode(packed, 4, good.data(), 3, 1, to));
  EXPECT_FALSE(palette_decode(packed, 4, bad.data(), 3, 1, to));
}

RC_GTEST_PROP(Codec, AnyTensorComesBack, ()) {
  const auto type = *rc::gen::element(
      ElementType::kFloat, ElementType::kFloat16, ElementType::kDouble, ElementType::kInt64,
      ElementType::kUint8, ElementType::kBool, ElementType::kComplex128, ElementType::kUint4);
  const auto rank = *rc::gen::inRange<std::size_t>(0, 5);
  auto dims =
      *rc::gen::container<std::vector<std::int64_t>>(rank, rc::gen::inRange<std::int64_t>(1, 40));
  if (rank > 2 && *rc::gen::arbitrary<bool>()) dims.back() = *rc::gen::inRange<std::int64_t>(1, 5);
  const auto header = header_of(type, dims);
  // Few distinct bytes, so that palettes hold now and then; or any.
  const int distinct = *rc::gen::element(1, 2, 5, 256);
  std::mt19937 random(*rc::gen::arbitrary<unsigned>());
  Bytes data(header.data_bytes);
  for (std::byte& byte : data)
    byte = static_cast<std::byte>(random() % static_cast<unsigned>(distinct));
  for (const Coding coding : kAll) round_trip(coding, header, data);
}

TEST(Codec, LargeTensorsOfEveryLayout) {
  std::mt19937 random(3);
  for (const auto& dims : std::vector<std::vector<std::int64_t>>{{1, 3, 736, 1280},
                                                                 {1, 736, 1281, 4},
                                                                 {1, 64, 112, 112},
                                                                 {3, 4, 5, 7},
                                                                 {400'001},
                                                                 {2, 300'001},
                                                                 {1, 2, 1, 400'000},
                                                                 {1, 1, 200'000, 3},
                                                                 {512, 512, 2}}) {
    const auto header = header_of(ElementType::kFloat, dims);
    Bytes data(header.data_bytes);
    std::vector<float> values(data.size() / 4);
    for (float& value : values) value = std::max(0.0F, static_cast<float>(random() % 300) - 60.0F);
    std::memcpy(data.data(), values.data(), data.size());
    for (const Coding coding : kAll) round_trip(coding, header, data);
  }
}

TEST(Codec, NoiseStaysAsItIs) {
  std::mt19937 random(3);
  std::vector<std::uint32_t> noise(100'000);
  for (auto& bits : noise) bits = static_cast<std::uint32_t>(random());
  const auto header = header_of(ElementType::kFloat, {100'000});
  for (const Coding coding : kAll)
    EXPECT_EQ(round_trip(coding, header, bytes_of_values(noise)), 400'000u);
}

TEST(Codec, FloatsShrinkByShuffling) {
  std::vector<float> values(200'000);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = std::max(0.0F, std::sin(static_cast<float>(i) * 0.01F));
  const auto header = header_of(ElementType::kFloat, {200'000});
  for (const Coding coding : {Coding::kLz4, Coding::kZstd})
    EXPECT_LT(round_trip(coding, header, bytes_of_values(values)), 720'000u);
}

RC_GTEST_PROP(Shuffle, ComesBack, (const std::vector<std::uint8_t>& numbers)) {
  const auto source = std::as_bytes(std::span(numbers));
  for (const std::size_t width : {1, 2, 3, 4, 8, 16}) {
    Bytes shuffled(source.size()), back(source.size());
    shuffle(source, width, shuffled);
    unshuffle(shuffled, width, back);
    RC_ASSERT(std::equal(back.begin(), back.end(), source.begin(), source.end()));
  }
}

RC_GTEST_PROP(Predictor, ComesBack, (const std::vector<std::uint8_t>& pixels)) {
  for (const std::size_t stride : {1, 2, 3, 4, 5}) {
    const auto row = *rc::gen::inRange<std::size_t>(stride, pixels.size() + stride + 2);
    std::vector<std::uint8_t> bytes(pixels.size());
    predict(pixels, stride, row, bytes);
    unpredict(bytes, stride, row);
    RC_ASSERT(bytes == pixels);
  }
}

TEST(Predictor, AFlatPictureIsAllZeros) {
  const std::vector<std::uint8_t> pixels(30, 9);
  std::vector<std::uint8_t> residuals(30);
  predict(pixels, 1, 6, residuals);
  EXPECT_EQ(residuals[0], 9);
  EXPECT_EQ(std::count(residuals.begin() + 1, residuals.end(), 0), 29);
}

// ---- bytes of a peer --------------------------------------------------------------------------

TEST(HostileChunks, EveryGoldenChunkDecodes) {
  // OUTBOARD_WRITE_GOLDEN=1 writes the fuzzer's seeds anew.
  if (std::getenv("OUTBOARD_WRITE_GOLDEN") != nullptr) {
    for (const GoldenChunk& chunk : golden_chunks()) {
      std::ofstream file(std::string(std::getenv("OUTBOARD_SOURCE_DIR")) +
                         "/tests/fuzz/corpus/chunk/" + std::string(chunk.name));
      file.put(static_cast<char>(std::countr_zero(chunk.element_bytes)));
      file.write(reinterpret_cast<const char*>(chunk.bytes.data()),
                 static_cast<std::streamsize>(chunk.bytes.size()));
    }
  }
  for (const GoldenChunk& chunk : golden_chunks()) {
    const auto decoded = decode_as_receiver(chunk.element_bytes, chunk.bytes);
    ASSERT_TRUE(decoded) << chunk.name << ": " << decoded.error().message;
    EXPECT_EQ(*decoded, chunk.tensor) << chunk.name;
  }
}

TEST(HostileChunks, EveryTruncationAndEveryChangedByte) {
  for (const GoldenChunk& chunk : golden_chunks()) {
    for (std::size_t size = 0; size < chunk.bytes.size(); ++size)
      EXPECT_FALSE(decode_as_receiver(chunk.element_bytes, std::span(chunk.bytes).first(size)))
          << chunk.name << " " << size;
    for (std::size_t at = 0; at < chunk.bytes.size(); ++at) {
      for (int change = 1; change < 256; ++change) {
        Bytes bytes = chunk.bytes;
        bytes[at] ^= static_cast<std::byte>(change);
        (void)decode_as_receiver(chunk.element_bytes, bytes);  // any answer, and the sanitizers
        (void)decode_as_receiver(8, bytes);
      }
    }
  }
}

TEST(HostileChunks, ABombIsRefusedBeforeItGrows) {
  ChunkCodec codec;
  PaletteMemory palettes;
  const Bytes zeros(512u << 10);
  const ChunkLayout layout = layout_of(header_of(ElementType::kUint8, {512 << 10}));
  for (const Coding coding : {Coding::kLz4, Coding::kZstd}) {
    const auto coded = codec.encode(coding, layout, 0, zeros, palettes);
    ASSERT_LT(coded.body.size(), 4096u);
    ChunkRecord small = coded.record;
    small.decoded_bytes = 4096;  // says less than what is in it
    Bytes room(4096);
    EXPECT_FALSE(codec.decode(small, 1, coded.body, room));
  }
  ChunkRecord record{.decoded_bytes = limits::kTensorChunkBytes + 1};
  EXPECT_FALSE(decode_chunk_record(encode(record), 10));
}

}  // namespace
}  // namespace outboard::wire
