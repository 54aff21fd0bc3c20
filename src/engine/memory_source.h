// SPDX-License-Identifier: Apache-2.0
// What an engine may have beside Engine, where it computes in another process or on a device with
// memory of its own: memory that it takes inputs from and leaves outputs in the shortest way. A Run
// whose inputs and outputs (OutputWanted::buffer) all lie in one such memory copies nothing on its
// way to another process; CUDA reads and writes it without a copy to a staging buffer
// (onnxruntime/pinned_memory.h).
//
//   if (auto* source = dynamic_cast<MemorySource*>(&engine)) ...
//
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"

namespace outboard::engine {

class MemorySource {
 public:
  virtual ~MemorySource() = default;
  // Zeroes, aligned to 64 bytes; given back with the last pointer to it, which may outlive the
  // engine. Another process may write to it at any time, so it is for data alone. Errors:
  // kOverloaded: there is none; kUnimplemented: the engine computes here, where any memory will do.
  virtual Result<std::shared_ptr<std::byte>> take_memory(std::uint64_t size_bytes) = 0;
};

}  // namespace outboard::engine
