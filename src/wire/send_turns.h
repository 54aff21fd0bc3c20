// SPDX-License-Identifier: Apache-2.0
// Large requests of one client leave one after the other, not at the same time.
//
// Connections that send at the same time share a link evenly, so all their requests are complete
// together; then the link up is idle while all servers compute, and then all replies come together.
// One after the other, the first is computed while the second is sent, and the link carries replies
// meanwhile: 16 callers of MobileNet-v2 over 1 Gbps make 1.9 times the Runs (docs/benchmarks.md).
//
// A turn is a courtesy, not a lock: nobody waits for longer than kMostWait, so a connection that
// hangs holds the others up for no longer than that. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <utility>

namespace outboard::wire {

class SendTurns {
 public:
  // Less than this is sent at once: 0.5 ms at 1 Gbps.
  static constexpr std::uint64_t kWorthWaitingBytes = 64u << 10;
  static constexpr std::chrono::milliseconds kMostWait{400};

  // In turn until end() or destruction.
  class Turn {
   public:
    Turn() = default;  // nobody's turn
    Turn(SendTurns* turns, std::uint64_t ticket) : turns_(turns), ticket_(ticket) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() { end(); }
    void end() {
      if (turns_ != nullptr) std::exchange(turns_, nullptr)->leave(ticket_);
    }

   private:
    SendTurns* turns_ = nullptr;
    std::uint64_t ticket_ = 0;
  };

  // First come, first served; returns at the latest after kMostWait, and soon after wake() where
  // `stop` (may be empty) has become true.
  Turn take(const std::function<bool()>& stop);
  void wake();  // some stop() may have changed

 private:
  void leave(std::uint64_t ticket);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<std::uint64_t> queue_;  // the first one sends
  std::uint64_t next_ = 0;
};

}  // namespace outboard::wire
