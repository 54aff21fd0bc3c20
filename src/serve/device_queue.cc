// SPDX-License-Identifier: Apache-2.0
#include "serve/device_queue.h"

#include <chrono>

namespace outboard::serve {
namespace {

// After a Run of this length its core is handed over: that takes some microseconds itself.
constexpr Nanoseconds kWorthACore = std::chrono::microseconds(500);

}  // namespace

Result<DeviceQueue::Slot> DeviceQueue::acquire(Ticket& ticket, FairFlow& flow, Deadline deadline) {
  std::unique_lock lock(mutex_);
  const auto cancelled = [] {
    return error(ErrorKind::kCancelled, "the request was cancelled while it waited for the device");
  };
  if (ticket.cancelled_) return cancelled();
  const Nanoseconds came = clock_.now();
  load_.depth_was(depth_.fetch_add(1, std::memory_order_relaxed), came);
  ticket.entry_.flow = &flow;
  ticket.entry_.deadline = deadline.at;
  if (free_ > 0) {  // then nobody waits
    --free_;
    order_.start(ticket.entry_);
    ticket.granted_at_ = came;
    return Slot(*this, ticket);
  }
  order_.push(ticket.entry_);
  ticket.granted_ = false;
  ticket.core_.waits();
  const auto done = [&] { return ticket.granted_ || ticket.cancelled_; };
  if (deadline.is_never()) {
    ticket.changed_.wait(lock, done);
  } else {
    const std::chrono::steady_clock::time_point until(deadline.at);
    ticket.changed_.wait_until(lock, until, done);
  }
  ticket.core_.woken();
  // A slot that was granted is taken even when the cancel came too: the Run ends at once.
  if (ticket.granted_) return Slot(*this, ticket);
  order_.remove(ticket.entry_);
  load_.depth_was(depth_.fetch_sub(1, std::memory_order_relaxed), clock_.now());
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

void DeviceQueue::set_weight(FairFlow& flow, double weight) {
  const std::lock_guard lock(mutex_);
  flow.set_weight(weight);
}

std::uint32_t DeviceQueue::depth(const FairFlow& flow) const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::uint32_t>(FairOrder::depth(flow));
}

Nanoseconds DeviceQueue::expected_wait() const {
  const std::lock_guard lock(mutex_);
  return load_.expected_wait(depth_.load(std::memory_order_relaxed), clock_.now());
}

void DeviceQueue::release(Ticket& ticket) {
  const std::lock_guard lock(mutex_);
  const Nanoseconds ended = clock_.now();
  load_.depth_was(depth_.fetch_sub(1, std::memory_order_relaxed), ended);
  load_.served(ended - ticket.granted_at_);
  order_.finish(ticket.entry_, ended - ticket.granted_at_);
  FairEntry* entry = order_.pop();
  if (entry == nullptr) {
    ++free_;
    return;
  }
  Ticket& next = *static_cast<Ticket*>(entry->owner);
  next.granted_ = true;
  next.granted_at_ = ended;
  if (slots_ > 1 && ended - ticket.granted_at_ >= kWorthACore) next.core_.give_this_core();
  next.changed_.notify_one();
}

}  // namespace outboard::serve
