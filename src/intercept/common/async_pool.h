// SPDX-License-Identifier: Apache-2.0
// Threads for Runs that the program does not wait for. They start when they are needed and end when
// they have been idle for a while. Thread-safe; belongs to one Process, which never destroys it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>

namespace outboard::intercept {

class AsyncPool {
 public:
  // `max_threads`: how many tasks may run at once, counting those already there; at least 2.
  void post(std::function<void()> task, std::size_t max_threads);

 private:
  void work();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  std::size_t threads_ = 0, idle_ = 0;
};

}  // namespace outboard::intercept
