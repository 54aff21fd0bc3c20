// SPDX-License-Identifier: Apache-2.0
#include "wire/coding/compress.h"

#include <lz4.h>
#include <zstd.h>

#include "base/check.h"
#include "base/limits.h"

namespace outboard::wire {
namespace {

// Fast beats small here: a link that is slow enough for a higher level is rare, and its gain on
// residuals of pictures and on shuffled floats a few percent.
constexpr int kZstdLevel = 1;

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

}  // namespace

struct Compressors::State {
  std::unique_ptr<ZSTD_CCtx, FreeContext> zstd_compress;
  std::unique_ptr<ZSTD_DCtx, FreeContext> zstd_decompress;
  std::unique_ptr<char[]> lz4_state;
};

Compressors::Compressors() : state_(std::make_unique<State>()) {}
Compressors::~Compressors() = default;
Compressors::Compressors(Compressors&&) noexcept = default;
Compressors& Compressors::operator=(Compressors&&) noexcept = default;

std::size_t Compressors::compress(Compressor kind, std::span<const std::byte> source,
                                  std::span<std::byte> destination) {
  OB_CHECK(source.size() <= limits::kTensorChunkBytes &&
           destination.size() <= 2 * limits::kTensorChunkBytes);
  if (kind == Compressor::kLz4) {
    if (!state_->lz4_state)
      state_->lz4_state = std::make_unique<char[]>(static_cast<std::size_t>(LZ4_sizeofState()));
    const int written = LZ4_compress_fast_extState(
        state_->lz4_state.get(), reinterpret_cast<const char*>(source.data()),
        reinterpret_cast<char*>(destination.data()), static_cast<int>(source.size()),
        static_cast<int>(destination.size()), /*acceleration=*/1);
    return written > 0 ? static_cast<std::size_t>(written) : 0;
  }
  OB_CHECK(kind == Compressor::kZstd);
  if (!state_->zstd_compress) {
    state_->zstd_compress.reset(ZSTD_createCCtx());
    if (!state_->zstd_compress) return 0;
    ZSTD_CCtx_setParameter(state_->zstd_compress.get(), ZSTD_c_compressionLevel, kZstdLevel);
    ZSTD_CCtx_setParameter(state_->zstd_compress.get(), ZSTD_c_contentSizeFlag, 0);
  }
  const std::size_t written = ZSTD_compress2(state_->zstd_compress.get(), destination.data(),
                                             destination.size(), source.data(), source.size());
  return ZSTD_isError(written) != 0 ? 0 : written;
}

Result<void> Compressors::decompress(Compressor kind, std::span<const std::byte> source,
                                     std::span<std::byte> destination) {
  OB_CHECK(destination.size() <= limits::kTensorChunkBytes);
  if (source.size() > 2 * limits::kTensorChunkBytes)
    return error(ErrorKind::kInvalid, "compressed chunk ({} bytes) must be at most {}",
                 source.size(), 2 * limits::kTensorChunkBytes);
  const auto wrong = [&](std::string_view name) -> Result<void> {
    return error(ErrorKind::kInvalid, "chunk ({} bytes of {}) must decompress to {} bytes",
                 source.size(), name, destination.size());
  };
  if (kind == Compressor::kLz4) {
    const int got = LZ4_decompress_safe(
        reinterpret_cast<const char*>(source.data()), reinterpret_cast<char*>(destination.data()),
        static_cast<int>(source.size()), static_cast<int>(destination.size()));
    if (got < 0 || static_cast<std::size_t>(got) != destination.size()) return wrong("LZ4");
    return {};
  }
  OB_CHECK(kind == Compressor::kZstd);
  if (!state_->zstd_decompress) state_->zstd_decompress.reset(ZSTD_createDCtx());
  if (!state_->zstd_decompress)
    return error(ErrorKind::kInternal, "no memory was left for decompressing a chunk");
  const std::size_t got = ZSTD_decompressDCtx(state_->zstd_decompress.get(), destination.data(),
                                              destination.size(), source.data(), source.size());
  if (ZSTD_isError(got) != 0 || got != destination.size()) return wrong("zstd");
  return {};
}

}  // namespace outboard::wire
