// SPDX-License-Identifier: Apache-2.0
// What the store's source files share; nobody else includes this.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/files.h"
#include "serve/store.h"

namespace outboard::serve {

// A file by content: complete, or on its way. Under the store's mutex, but for what `upload`
// guards.
struct Store::Blob {
  explicit Blob(const Sha256& name) : hash(name) {}
  const Sha256 hash;
  std::uint64_t reserved_bytes =
      0;  // counted in used_bytes_; the whole file once its size is known
  std::atomic<std::uint64_t> have_bytes{0};
  bool complete = false;
  unsigned uploads = 0;  // holds of uploads that need it
  unsigned models = 0;   // complete models that have it
  std::int64_t last_used_s = 0;

  std::mutex upload;                     // one piece at a time
  File file;                             // under `upload`: open while pieces come
  std::unique_ptr<Sha256Hasher> hasher;  // with the file
};

struct Store::Model {
  wire::ModelManifest manifest;
  unsigned pins = 0;
  std::int64_t last_used_s = 0;
};

}  // namespace outboard::serve
