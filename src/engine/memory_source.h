// SPDX-License-Identifier: Apache-2.0
// What an engine may have beside Engine, where it computes in another process: memory that both
// have. A Run whose inputs and outputs (OutputWanted::buffer) all lie in one such memory copies
// nothing on its way.
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
  // Zeroes, aligned to a page; given back with the last pointer to it, which may outlive the
  // engine. The other process may write to it at any time, so it is for data alone. Errors:
  // kOverloaded: there is none; kUnimplemented: the engine computes here, where any memory will do.
  virtual Result<std::shared_ptr<std::byte>> take_memory(std::uint64_t size_bytes) = 0;
};

}  // namespace outboard::engine
