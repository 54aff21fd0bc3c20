// SPDX-License-Identifier: Apache-2.0
// LZ4 (block format) and zstd (one frame) behind one class, which keeps their working memory for
// the next call. An object belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/result.h"
#include "wire/coding/chunk.h"

namespace outboard::wire {

class Compressors {
 public:
  Compressors();
  ~Compressors();
  Compressors(Compressors&&) noexcept;
  Compressors& operator=(Compressors&&) noexcept;

  // Bytes written into `destination`; 0: it would not fit, so it is not worth while.
  std::size_t compress(Compressor kind, std::span<const std::byte> source,
                       std::span<std::byte> destination);
  // Fills `destination` exactly. kInvalid: the source is no such stream, or of another size.
  Result<void> decompress(Compressor kind, std::span<const std::byte> source,
                          std::span<std::byte> destination);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace outboard::wire
