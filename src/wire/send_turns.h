// SPDX-License-Identifier: Apache-2.0
// Large requests of one client leave one after the other, not at the same time.
//
// Connections that send at the same time share a link evenly, so all their requests are complete
// together; then the link up is idle while all servers compute, and then all replies come together.
// One after the other, the first is computed while the second is sent, and the link carries replies
// meanwhile (docs/benchmarks.md has figures).
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

#include "wire/transport/stream.h"

namespace outboard::wire {

class SendTurns {
 public:
  // Whether a request is sent in turn. Small ones fill a link well enough by themselves. Within a
  // host the turn's way from thread to thread would leave gaps unless the request is large; and
  // where the peer is far, a connection that begins to send is slowed down by the delay and not by
  // the link, which several at once fill better.
  static bool worth_waiting(std::uint64_t bytes, const Path& path);
  static constexpr std::uint64_t kWithinHostBytes = 4u << 20, kBeyondHostBytes = 256u << 10;
  static constexpr std::uint64_t kBytesPerUs = 256;  // of the round trip
  static constexpr std::chrono::milliseconds kMostWait{400};

  // In turn until end() or destruction.
  class Turn;
  // First come, first served; returns at the latest after kMostWait, and soon after wake() where
  // `stop` (may be empty) has become true.
  Turn take(const std::function<bool()>& stop);
  void wake();  // some stop() may have changed

 private:
  // One's place in the queue, of which the first one sends; waits by `changed`, nullptr: no longer.
  struct Place {
    std::condition_variable* changed = nullptr;
  };
  using Places = std::list<Place>;
  void leave(Places::iterator place);

  std::mutex mutex_;
  Places queue_;
};

class SendTurns::Turn {
 public:
  Turn() = default;  // nobody's turn
  Turn(SendTurns* turns, Places::iterator place) : turns_(turns), place_(place) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() { end(); }
  void end() {
    if (turns_ != nullptr) std::exchange(turns_, nullptr)->leave(place_);
  }

 private:
  SendTurns* turns_ = nullptr;
  Places::iterator place_;
};

}  // namespace outboard::wire
