// SPDX-License-Identifier: Apache-2.0
#include "wire/send_turns.h"

namespace outboard::wire {

SendTurns::Turn SendTurns::take(const std::function<bool()>& stop) {
  std::unique_lock lock(mutex_);
  const std::uint64_t ticket = next_++;
  queue_.push_back(ticket);
  changed_.wait_for(lock, kMostWait, [&] { return queue_.front() == ticket || (stop && stop()); });
  return {this, ticket};
}

void SendTurns::wake() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void SendTurns::leave(std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  queue_.remove(ticket);
  changed_.notify_all();
}

}  // namespace outboard::wire
