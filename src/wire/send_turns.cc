// SPDX-License-Identifier: Apache-2.0
#include "wire/send_turns.h"

#include <algorithm>

namespace outboard::wire {

bool SendTurns::worth_waiting(std::uint64_t bytes, const Path& path) {
  if (!path.leaves_host) return bytes >= kWithinHostBytes;
  const auto delay_us = static_cast<std::uint64_t>(path.round_trip.count());
  return bytes >= std::max(kBeyondHostBytes, delay_us * kBytesPerUs);
}

SendTurns::Turn SendTurns::take(const std::function<bool()>& stop) {
  std::unique_lock lock(mutex_);
  std::condition_variable changed;
  const auto place = queue_.insert(queue_.end(), Place{&changed});
  changed.wait_for(lock, kMostWait, [&] { return place == queue_.begin() || (stop && stop()); });
  place->changed = nullptr;
  return {this, place};
}

void SendTurns::wake() {
  const std::lock_guard lock(mutex_);
  for (const Place& place : queue_)
    if (place.changed != nullptr) place.changed->notify_one();
}

// Only the next one is woken: with many callers the others would wake in vain.
void SendTurns::leave(Places::iterator place) {
  const std::lock_guard lock(mutex_);
  queue_.erase(place);
  if (!queue_.empty() && queue_.front().changed != nullptr) queue_.front().changed->notify_one();
}

}  // namespace outboard::wire
