// SPDX-License-Identifier: Apache-2.0
#include "serve/buffers.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "base/limits.h"

namespace outboard::serve {
namespace {

// Sizes come in steps of an eighth of their power of two, so that like Runs find like buffers.
std::size_t rounded_up(std::size_t size) {
  const std::size_t step = std::max<std::size_t>(std::bit_floor(size) / 8, 4096);
  return (size + step - 1) / step * step;
}

}  // namespace

BufferPool::~BufferPool() {
  for (const auto& [capacity, data] : kept_) std::free(data);
}

BufferPool::Buffer BufferPool::take(std::size_t size_bytes) {
  if (size_bytes > 2 * limits::kRunBytes) return {};  // more than any Run with its alignment
  const std::size_t capacity = rounded_up(size_bytes);
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(kept_.begin(), kept_.end(),
                                    [&](const auto& kept) { return kept.first == capacity; });
    if (found != kept_.end()) {
      std::byte* data = found->second;
      *found = kept_.back();
      kept_.pop_back();
      kept_bytes_ -= capacity;
      return {*this, data, capacity};
    }
  }
  return {*this, static_cast<std::byte*>(std::aligned_alloc(kAlignment, capacity)), capacity};
}

void BufferPool::give_back(std::byte* data, std::size_t capacity) {
  if (capacity > kept_limit_bytes_) {
    std::free(data);
    return;
  }
  const std::lock_guard lock(mutex_);
  // The oldest go first: sizes that nobody asks for any more.
  while (kept_bytes_ + capacity > kept_limit_bytes_) {
    kept_bytes_ -= kept_.front().first;
    std::free(kept_.front().second);
    kept_.erase(kept_.begin());
  }
  kept_.emplace_back(capacity, data);
  kept_bytes_ += capacity;
}

std::size_t BufferPool::kept_bytes() const {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

}  // namespace outboard::serve
