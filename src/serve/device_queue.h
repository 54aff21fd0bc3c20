// SPDX-License-Identifier: Apache-2.0
// The order in which Runs get the device: first come, first served, at most `slots` at a time.
//
// Thread-safe. A ticket serves one request at a time and must outlive its place in the queue.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <utility>

#include "base/clock.h"
#include "base/result.h"

namespace outboard::serve {

class DeviceQueue {
 public:
  explicit DeviceQueue(std::size_t slots) : free_(slots) {}
  DeviceQueue(const DeviceQueue&) = delete;
  DeviceQueue& operator=(const DeviceQueue&) = delete;

  // A request's place. cancel() reaches it whether it waits already or will only wait later.
  class Ticket {
    friend class DeviceQueue;
    std::condition_variable changed_;
    bool granted_ = false, cancelled_ = false;  // under the queue's mutex
  };

  // The device, until destruction.
  class Slot {
   public:
    explicit Slot(DeviceQueue& queue) : queue_(&queue) {}
    Slot(Slot&& other) noexcept : queue_(std::exchange(other.queue_, nullptr)) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot() {
      if (queue_ != nullptr) queue_->release();
    }

   private:
    DeviceQueue* queue_;
  };

  // Waits for its turn. kCancelled after cancel(), kTimeout when the deadline comes first.
  Result<Slot> acquire(Ticket& ticket, Deadline deadline = Deadline::never());
  void cancel(Ticket& ticket);  // any thread
  void reset(Ticket& ticket);   // before the next request

  // Requests that wait or hold a slot.
  std::uint32_t depth() const { return depth_.load(std::memory_order_relaxed); }

 private:
  void release();

  std::mutex mutex_;
  std::size_t free_;
  std::deque<Ticket*> waiting_;
  std::atomic<std::uint32_t> depth_{0};
};

}  // namespace outboard::serve
