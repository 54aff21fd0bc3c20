// SPDX-License-Identifier: Apache-2.0
// Where a pool of sessions gets its models: a server's store, or what was handed to a worker.
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/sha256.h"

namespace outboard::serve {

// Keeps a complete model as long as it lives, and names it as the engine opens it.
class PinnedModel {
 public:
  PinnedModel(std::string path, std::uint64_t size_bytes)
      : path_(std::move(path)), size_bytes_(size_bytes) {}
  virtual ~PinnedModel() = default;
  PinnedModel(const PinnedModel&) = delete;
  PinnedModel& operator=(const PinnedModel&) = delete;
  const std::string& path() const { return path_; }
  std::uint64_t size_bytes() const { return size_bytes_; }  // of all its files

 private:
  const std::string path_;
  const std::uint64_t size_bytes_;
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;
  // kNotFound: it is not there. What is pinned borrows the source.
  virtual Result<std::unique_ptr<PinnedModel>> pin(const Sha256& model) = 0;
};

}  // namespace outboard::serve
