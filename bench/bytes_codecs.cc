// SPDX-License-Identifier: Apache-2.0
// Speed of the codecs of src/wire/coding, one thread, over the float tensors of a file:
//
//   bench_bytes_codecs FILE DIM...      FILE: raw float32 in the machine's order
//
// Prints JSON: for each coding decoded bytes per second of coding and decoding and the share that
// is left; what giving a palette up takes, and memcpy for comparison. Medians of repetitions.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "wire/coding/codec.h"

namespace {

using namespace outboard::wire;
using Bytes = std::vector<std::byte>;

double median_s(int repetitions, const std::function<void()>& work) {
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    times.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + repetitions / 2, times.end());
  return times[static_cast<std::size_t>(repetitions) / 2];
}

struct Piece {
  ChunkRecord record;
  Bytes body;
};

std::string measure(Coding coding, const TensorHeader& header, const Bytes& data) {
  const ChunkLayout layout = layout_of(header);
  ChunkCodec codec;
  PaletteMemory palettes;
  std::vector<Piece> pieces;
  std::size_t coded_bytes = 0;
  const auto encode_all = [&](bool keep) {
    for (std::size_t offset = 0; offset < data.size();) {
      const std::size_t size = chunk_size(layout, offset, data.size());
      const auto coded =
          codec.encode(coding, layout, offset, std::span(data).subspan(offset, size), palettes);
      if (keep) {
        pieces.push_back({coded.record, Bytes(coded.body.begin(), coded.body.end())});
        coded_bytes += coded.body.size() + 48;
      }
      offset += size;
    }
  };
  encode_all(true);
  const double encode_s = median_s(15, [&] { encode_all(false); });
  Bytes decoded(data.size());
  const double decode_s = median_s(15, [&] {
    std::size_t offset = 0;
    for (const Piece& piece : pieces) {
      const auto done =
          codec.decode(piece.record, layout.element_bytes, piece.body,
                       std::span(decoded).subspan(offset, piece.record.decoded_bytes));
      if (!done) std::abort();
      offset += piece.record.decoded_bytes;
    }
  });
  if (decoded != data) std::abort();
  const auto size = static_cast<double>(data.size());
  return fmt::format(
      R"("{}": {{"encode_bytes_per_s": {:.4g}, "decode_bytes_per_s": {:.4g}, "ratio": {:.5f}}})",
      name_of(coding), size / encode_s, size / decode_s, static_cast<double>(coded_bytes) / size);
}

// A chunk without a palette: how long until that is known; the first time, and with a palette
// learnt before.
std::string measure_giving_up(const TensorHeader& header, const Bytes& picture) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> noise(picture.size() / sizeof(float));
  for (float& value : noise) value = normal(random);
  const auto bytes = std::as_bytes(std::span(noise));
  const ChunkLayout layout = layout_of(header);
  const std::size_t size = chunk_size(layout, 0, bytes.size());
  ChunkCodec codec;
  PaletteMemory fresh, learnt;
  (void)codec.encode(Coding::kPalette, layout, 0, bytes.first(size), fresh);
  const double first_s = median_s(101, [&] {
    fresh.encoders.clear();
    (void)codec.encode(Coding::kPalette, layout, 0, bytes.first(size), fresh);
  });
  (void)codec.encode(Coding::kPalette, layout, 0, std::span(picture).first(size), learnt);
  const double later_s = median_s(
      101, [&] { (void)codec.encode(Coding::kPalette, layout, 0, bytes.first(size), learnt); });
  return fmt::format(R"("give_up_us": {:.3f}, "give_up_later_us": {:.3f})", first_s * 1e6,
                     later_s * 1e6);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "bench_bytes_codecs: expected FILE DIM...\n");
    return 2;
  }
  TensorHeader header{.type = ElementType::kFloat, .dims = {}, .data_bytes = 0};
  for (int i = 2; i < count; ++i) header.dims.push_back(std::atoll(arguments[i]));
  const auto expected = size_bytes(header.type, header.dims);
  std::ifstream file(arguments[1], std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!expected || text.size() != *expected) {
    std::fprintf(stderr,
                 "bench_bytes_codecs: file (%s) must have the bytes of its shape, not %zu\n",
                 arguments[1], text.size());
    return 1;
  }
  header.data_bytes = *expected;
  Bytes data(text.size());
  std::memcpy(data.data(), text.data(), data.size());
  std::string out = "{";
  for (const Coding coding : {Coding::kPalette, Coding::kPaletteZstd, Coding::kLz4, Coding::kZstd})
    out += measure(coding, header, data) + ", ";
  Bytes copy(data.size());
  const double copy_s = median_s(31, [&] { std::memcpy(copy.data(), data.data(), data.size()); });
  out += measure_giving_up(header, data);
  out +=
      fmt::format(R"(, "memcpy_bytes_per_s": {:.4g}}})", static_cast<double>(data.size()) / copy_s);
  std::puts(out.c_str());
}
