// SPDX-License-Identifier: Apache-2.0
// Page-locked memory of the host, which a CUDA device copies from and to by itself; pageable memory
// goes through a staging buffer of the driver's, piece by piece. From the library's own allocator
// ("CudaPinned"), which only a session hands out.
//
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/onnxruntime/library.h"
#include "engine/onnxruntime/session_options.h"

namespace outboard::engine {

class PinnedMemory : public std::enable_shared_from_this<PinnedMemory> {
 public:
  // kEngine: the library has no such memory for this device.
  static Result<std::shared_ptr<PinnedMemory>> make(std::shared_ptr<const Library> library,
                                                    const Device& device);
  // Zeroes; given back with the last pointer.
  Result<std::shared_ptr<std::byte>> take(std::uint64_t size_bytes);

 private:
  explicit PinnedMemory(std::shared_ptr<const Library> library);

  const std::shared_ptr<const Library> library_;
  Owned<OrtSession> session_;
  Owned<OrtMemoryInfo> info_;
  Owned<OrtAllocator> allocator_;  // ends first
};

}  // namespace outboard::engine
