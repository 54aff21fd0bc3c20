// SPDX-License-Identifier: Apache-2.0
// Many threads with small stacks, each joined: the next one that ends joins the one before it.
//
// Thread-safe. The destructor waits for all.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>

#include "base/result.h"

namespace outboard::serve {

class Threads {
 public:
  // Address space, of which only what is used becomes memory. Kernels of the engine run on it.
  static constexpr std::size_t kStackBytes = 2u << 20;

  Threads() = default;
  ~Threads() { wait_for_all(); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  // kOverloaded when the system gives no thread. `body` must not throw.
  Result<void> start(std::function<void()> body);
  std::size_t running() const;
  void wait_for_all();  // returns when every thread is joined

 private:
  struct Start;
  static void* run(void* start);
  void ended();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t running_ = 0;
  std::optional<pthread_t> last_ended_;
};

}  // namespace outboard::serve
