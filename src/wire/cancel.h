// SPDX-License-Identifier: Apache-2.0
// Lets another thread end a Run that is under way, and see whether its server is alive.
// Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

namespace outboard::wire {

// One token may serve any number of Runs, also at once.
class CancelToken {
 public:
  // Every Run that holds it now fails with kCancelled, at once: its server is asked to stop and its
  // connection given up, because a server may be inside an operator that nothing can stop.
  void cancel();
  // The same without a word to the server, which could wait for a link that is stuck: it sees that
  // the connection goes.
  void abandon();
  void reset();  // Runs that begin from now on are not cancelled
  bool is_cancelled() const { return cancelled_.load(); }

  // A server said that it is at work on a Run that holds this. Nanoseconds of the monotonic clock;
  // 0: it never did.
  void heard(std::int64_t at_ns) { heard_ns_.store(at_ns, std::memory_order_relaxed); }
  std::int64_t heard_ns() const { return heard_ns_.load(std::memory_order_relaxed); }
  // Bytes that Runs which hold this have moved: grows while a large request or reply is under way.
  // Does not wait: 0 while somebody begins, ends or cancels one.
  std::uint64_t moved_bytes() const;

 private:
  friend class CancelWatch;
  void stop_all(bool politely);
  std::atomic<bool> cancelled_{false};
  std::atomic<std::int64_t> heard_ns_{0};
  struct Slot {
    std::function<void(bool)> stop;  // empty: the slot is free
    std::function<std::uint64_t()> moved_bytes;
  };
  mutable std::mutex mutex_;
  std::vector<Slot> active_;
};

// Calls `stop` on the cancelling thread while it lives; at once where the token is cancelled
// already. `politely`: whether the peer shall be told. `moved_bytes` (may be empty) tells how far
// the Run is, on any thread. Without a token it does nothing.
class CancelWatch {
 public:
  CancelWatch(CancelToken* token, std::function<void(bool politely)> stop,
              std::function<std::uint64_t()> moved_bytes = {});
  ~CancelWatch();
  CancelWatch(const CancelWatch&) = delete;
  CancelWatch& operator=(const CancelWatch&) = delete;

 private:
  CancelToken* const token_;
  std::size_t slot_ = 0;
};

}  // namespace outboard::wire
