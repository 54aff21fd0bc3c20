// SPDX-License-Identifier: Apache-2.0
#include "serve/device_queue.h"

#include <algorithm>
#include <chrono>

namespace outboard::serve {

Result<DeviceQueue::Slot> DeviceQueue::acquire(Ticket& ticket, Deadline deadline) {
  std::unique_lock lock(mutex_);
  const auto cancelled = [] {
    return error(ErrorKind::kCancelled, "the request was cancelled while it waited for the device");
  };
  if (ticket.cancelled_) return cancelled();
  depth_.fetch_add(1, std::memory_order_relaxed);
  if (free_ > 0) {
    --free_;
    return Slot(*this);
  }
  ticket.granted_ = false;
  waiting_.push_back(&ticket);
  const auto done = [&] { return ticket.granted_ || ticket.cancelled_; };
  if (deadline.is_never()) {
    ticket.changed_.wait(lock, done);
  } else {
    const std::chrono::steady_clock::time_point until(deadline.at);
    ticket.changed_.wait_until(lock, until, done);
  }
  // A slot that was granted is taken even when the cancel came too: the Run ends at once.
  if (ticket.granted_) return Slot(*this);
  std::erase(waiting_, &ticket);
  depth_.fetch_sub(1, std::memory_order_relaxed);
  if (ticket.cancelled_) return cancelled();
  return error(ErrorKind::kTimeout, "the deadline passed while the request waited for the device");
}

void DeviceQueue::cancel(Ticket& ticket) {
  const std::lock_guard lock(mutex_);
  ticket.cancelled_ = true;
  ticket.changed_.notify_one();
}

void DeviceQueue::reset(Ticket& ticket) {
  const std::lock_guard lock(mutex_);
  ticket.cancelled_ = false;
}

void DeviceQueue::release() {
  const std::lock_guard lock(mutex_);
  depth_.fetch_sub(1, std::memory_order_relaxed);
  if (waiting_.empty()) {
    ++free_;
    return;
  }
  Ticket& next = *waiting_.front();
  waiting_.pop_front();
  next.granted_ = true;
  next.changed_.notify_one();
}

}  // namespace outboard::serve
