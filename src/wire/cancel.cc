// SPDX-License-Identifier: Apache-2.0
#include "wire/cancel.h"

#include <algorithm>
#include <utility>

namespace outboard::wire {

CancelWatch::CancelWatch(CancelToken* token, std::function<void(bool)> stop,
                         std::function<std::uint64_t()> moved_bytes)
    : token_(token) {
  if (token_ == nullptr) return;
  const std::lock_guard lock(token_->mutex_);
  auto& active = token_->active_;
  const auto is_free = [](const auto& slot) { return !slot.stop; };
  slot_ = static_cast<std::size_t>(std::find_if(active.begin(), active.end(), is_free) -
                                   active.begin());
  if (slot_ == active.size()) active.emplace_back();
  active[slot_] = {std::move(stop), std::move(moved_bytes)};
  if (token_->cancelled_) active[slot_].stop(/*politely=*/false);
}

CancelWatch::~CancelWatch() {
  if (token_ == nullptr) return;
  const std::lock_guard lock(token_->mutex_);
  token_->active_[slot_] = {};
}

void CancelToken::stop_all(bool politely) {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (const Slot& slot : active_) {
    if (slot.stop) slot.stop(politely);
  }
}

std::uint64_t CancelToken::moved_bytes() const {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return 0;
  std::uint64_t bytes = 0;
  for (const Slot& slot : active_) {
    if (slot.moved_bytes) bytes += slot.moved_bytes();
  }
  return bytes;
}

void CancelToken::cancel() { stop_all(true); }
void CancelToken::abandon() { stop_all(false); }

void CancelToken::reset() {
  const std::lock_guard lock(mutex_);
  cancelled_ = false;
}

}  // namespace outboard::wire
