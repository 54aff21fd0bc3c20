// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/async_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/background.h"

namespace outboard::intercept {

void AsyncPool::post(std::function<void()> task, std::size_t max_threads) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  if (idle_ >= tasks_.size() || threads_ >= std::max<std::size_t>(max_threads, 2)) {
    wake_.notify_one();
    return;
  }
  ++threads_;
  start_in_background([this] { work(); });
}

void AsyncPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    const bool has_task =
        wake_.wait_for(lock, std::chrono::seconds(10), [&] { return !tasks_.empty(); });
    --idle_;
    if (!has_task) break;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
  --threads_;
}

}  // namespace outboard::intercept
