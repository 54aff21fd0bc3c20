// SPDX-License-Identifier: Apache-2.0
// The order in which Runs get the device, at most `slots` at a time: by FairOrder, so shared by
// weight between tenants, deadlines first within a share, else first come first served.
//
// Thread-safe. A ticket serves one request at a time and must outlive its place in the queue; a
// flow must outlive the tickets that used it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "serve/core_handover.h"
#include "serve/fair_order.h"
#include "serve/load_average.h"

namespace outboard::serve {

class DeviceQueue {
 public:
  // `clock`: by which the device's time is counted; borrowed.
  explicit DeviceQueue(std::size_t slots, const Clock& clock = Clock::monotonic())
      : slots_(slots), clock_(clock), free_(slots), load_(slots) {}
  DeviceQueue(const DeviceQueue&) = delete;
  DeviceQueue& operator=(const DeviceQueue&) = delete;

  // A request's place. cancel() reaches it whether it waits already or will only wait later.
  class Ticket {
   public:
    Ticket() { entry_.owner = this; }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

   private:
    friend class DeviceQueue;
    std::condition_variable changed_;
    CoreHandover core_;                         // under the queue's mutex
    FairEntry entry_;                           // first under the queue's mutex
    Nanoseconds granted_at_{};                  // then of whoever holds the slot
    bool granted_ = false, cancelled_ = false;  // under the queue's mutex
  };

  // The device, until destruction.
  class Slot {
   public:
    Slot(DeviceQueue& queue, Ticket& ticket) : queue_(&queue), ticket_(&ticket) {}
    Slot(Slot&& other) noexcept
        : queue_(std::exchange(other.queue_, nullptr)), ticket_(other.ticket_) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot() {
      if (queue_ != nullptr) queue_->release(*ticket_);
    }

   private:
    DeviceQueue* queue_;
    Ticket* ticket_;
  };

  // Waits for its turn. kCancelled after cancel(), kTimeout when the deadline comes first.
  Result<Slot> acquire(Ticket& ticket, FairFlow& flow, Deadline deadline = Deadline::never());
  void cancel(Ticket& ticket);  // any thread
  void reset(Ticket& ticket);   // before the next request
  void set_weight(FairFlow& flow, double weight);

  std::size_t slots() const { return slots_; }
  // Requests that wait or hold a slot: of all tenants, and of one.
  std::uint32_t depth() const { return depth_.load(std::memory_order_relaxed); }
  std::uint32_t depth(const FairFlow& flow) const;
  // What a request that came now could expect to wait, from the last second's load.
  Nanoseconds expected_wait() const;

 private:
  void release(Ticket& ticket);

  const std::size_t slots_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  std::size_t free_;
  FairOrder order_;
  LoadAverage load_;
  std::atomic<std::uint32_t> depth_{0};
};

}  // namespace outboard::serve
