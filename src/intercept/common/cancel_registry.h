// SPDX-License-Identifier: Apache-2.0
// The Runs under way that somebody may want to end, by the address of the program's run options.
// Thread-safe.
#pragma once

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "wire/client.h"

namespace outboard::intercept {

class CancelRegistry {
 public:
  void add(const void* key, wire::CancelToken* token) {
    const std::lock_guard lock(mutex_);
    active_.emplace_back(key, token);
  }
  void remove(const wire::CancelToken* token) {
    const std::lock_guard lock(mutex_);
    std::erase_if(active_, [&](const auto& entry) { return entry.second == token; });
  }
  void cancel(const void* key) {
    const std::lock_guard lock(mutex_);
    for (const auto& [k, token] : active_) {
      if (k == key) token->cancel();
    }
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<const void*, wire::CancelToken*>> active_;
};

}  // namespace outboard::intercept
