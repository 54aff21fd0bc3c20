// SPDX-License-Identifier: Apache-2.0
// One thread that looks after every request that waits or computes, because the threads inside the
// engine cannot: it sees a client's cancel or its going away, it ends what is past its deadline,
// and it sends the heartbeats.
//
// It looks every kTick while there is work, and sleeps when there has been none for a while; so a
// short Run costs two locks that nobody contends for, and no system call.
// Thread-safe. A Watched is added before its first request and removed after its last.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "wire/connection.h"

namespace outboard::serve {

// A connection as the watcher sees it.
class Watched {
 public:
  // `stop` makes the request under way end soon; called at most once a request, on the watcher's
  // thread.
  Watched(wire::Connection& connection, std::function<void()> stop)
      : connection_(connection), stop_(std::move(stop)) {}

 private:
  friend class Watcher;
  wire::Connection& connection_;
  const std::function<void()> stop_;
  std::atomic<bool> busy_{false};
  std::mutex mutex_;  // of what follows; held while the watcher looks
  std::uint64_t request_id_ = 0;
  Deadline deadline_;
  Nanoseconds next_heartbeat_{};
  std::optional<ErrorKind> stopped_;
};

class Watcher {
 public:
  static constexpr std::chrono::milliseconds kTick{10};

  // `queue_depth` goes into heartbeats.
  explicit Watcher(std::function<std::uint32_t()> queue_depth);
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  void add(Watched& watched);
  void remove(Watched& watched);

  // Marks a request as under way. Nobody may receive from the connection meanwhile.
  class Busy {
   public:
    Busy(Watcher& watcher, Watched& watched, std::uint64_t request_id,
         Deadline deadline = Deadline::never());
    ~Busy() { end(); }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    // No heartbeat leaves and nothing is stopped afterwards. Why it was stopped, if it was:
    // kCancelled, kDisconnected or kTimeout.
    std::optional<ErrorKind> end();

   private:
    Watcher& watcher_;
    Watched* watched_;
  };

 private:
  void watch();
  void look_at(Watched& watched, Nanoseconds now);

  const std::function<std::uint32_t()> queue_depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Watched*> all_;
  std::atomic<std::uint64_t> busy_{0};
  std::atomic<bool> asleep_{false};
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace outboard::serve
