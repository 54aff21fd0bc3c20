// SPDX-License-Identifier: Apache-2.0
// Memory for the tensors of Runs: kept for the next Run, up to a limit, because the pages of a
// fresh allocation cost more than the bytes that are written into them.
//
// Thread-safe. Buffers borrow the pool, which must outlive them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace outboard::serve {

class BufferPool {
 public:
  // Aligned for any vector instruction.
  static constexpr std::size_t kAlignment = 64;

  explicit BufferPool(std::size_t kept_limit_bytes) : kept_limit_bytes_(kept_limit_bytes) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept
        : pool_(other.pool_),
          data_(std::exchange(other.data_, nullptr)),
          capacity_(std::exchange(other.capacity_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(data_, other.data_);
      std::swap(capacity_, other.capacity_);
      return *this;
    }
    ~Buffer() {
      if (data_ != nullptr) pool_->give_back(data_, capacity_);
    }
    std::byte* data() const { return data_; }
    std::size_t capacity() const { return capacity_; }

   private:
    friend class BufferPool;
    Buffer(BufferPool& pool, std::byte* data, std::size_t capacity)
        : pool_(&pool), data_(data), capacity_(capacity) {}
    BufferPool* pool_ = nullptr;
    std::byte* data_ = nullptr;
    std::size_t capacity_ = 0;
  };

  // At least `size_bytes` (not zero) of undefined content; no memory: data() is nullptr. Pages of
  // a fresh buffer are only taken from the system as they are written to.
  Buffer take(std::size_t size_bytes);
  std::size_t kept_bytes() const;

 private:
  void give_back(std::byte* data, std::size_t capacity);

  const std::size_t kept_limit_bytes_;
  mutable std::mutex mutex_;
  std::vector<std::pair<std::size_t, std::byte*>> kept_;  // capacity, memory
  std::size_t kept_bytes_ = 0;
};

}  // namespace outboard::serve
