// SPDX-License-Identifier: Apache-2.0
// The loaded library: its function table, its one environment, and owners of its objects.
// Thread-safe. A library stays loaded for the life of the process.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <string>

#include "base/result.h"
#include "engine/onnxruntime/engine.h"

namespace outboard::engine {

// The oldest library that is supported, as a minor version of 1.
inline constexpr unsigned kOldestMinor = 10;

class Library {
 public:
  // Loads (once a path; later calls share) and makes the environment.
  static Result<std::shared_ptr<const Library>> load(const OnnxRuntimeOptions& options);

  const OrtApi& api() const { return *api_; }
  // What may be called: the lesser of the headers' and the library's API number.
  unsigned api_version() const { return api_version_; }
  const std::string& version() const { return version_; }
  const std::string& path() const { return path_; }
  OrtEnv* env() const { return env_; }
  OrtAllocator* allocator() const { return allocator_; }  // the default one, never released
  const OrtMemoryInfo* cpu_memory() const { return cpu_memory_; }
  bool has_shared_threads() const { return shared_threads_; }

  // Takes ownership. Ok for nullptr.
  Result<void> check(OrtStatus* status) const;

 private:
  const OrtApi* api_ = nullptr;
  unsigned api_version_ = 0;
  std::string version_, path_;
  OrtEnv* env_ = nullptr;
  OrtAllocator* allocator_ = nullptr;
  OrtMemoryInfo* cpu_memory_ = nullptr;
  bool shared_threads_ = false;

  Result<void> open(const std::string& path);
  Result<void> make_environment(const OnnxRuntimeOptions& options);
};

// An object of the library and the function that gives it back.
template <typename T>
class Owned {
 public:
  using Release = void(ORT_API_CALL*)(T*);
  explicit Owned(Release release) : release_(release) {}
  Owned(T* value, Release release) : value_(value), release_(release) {}
  Owned(Owned&& other) noexcept
      : value_(std::exchange(other.value_, nullptr)), release_(other.release_) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(value_, other.value_);
    std::swap(release_, other.release_);
    return *this;
  }
  ~Owned() {
    if (value_ != nullptr) release_(value_);
  }
  T* get() const { return value_; }
  T** out() { return &value_; }

 private:
  T* value_ = nullptr;
  Release release_;
};

}  // namespace outboard::engine
