// SPDX-License-Identifier: Apache-2.0
// One thread that looks after every request that is under way, because the threads inside the
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
  // thread. `queue_depth` goes into heartbeats.
  Watched(wire::Connection& connection, std::function<void()> stop,
          std::function<std::uint32_t()> queue_depth)
      : connection_(connection), stop_(std::move(stop)), queue_depth_(std::move(queue_depth)) {}

 private:
  friend class Watcher;
  wire::Connection& connection_;
  const std::function<void()> stop_;
  const std::function<std::uint32_t()> queue_depth_;
  std::atomic<bool> busy_{false};
  std::mutex mutex_;  // of what follows; held while the watcher looks
  bool received_ = false;
  std::uint64_t request_id_ = 0;
  Deadline deadline_;
  Nanoseconds next_heartbeat_{};
  std::optional<ErrorKind> stopped_;
};

class Watcher {
 public:
  static constexpr std::chrono::milliseconds kTick{10};

  Watcher();
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  void add(Watched& watched);
  void remove(Watched& watched);

  // A request's header has come: heartbeats leave from now on. `now`: on the monotonic clock.
  void begin(Watched& watched, std::uint64_t request_id, Nanoseconds now);
  // All of the request has come: from now on a cancel, a client that goes away and the deadline
  // end it, and nobody may receive from the connection.
  void received(Watched& watched, Deadline deadline = Deadline::never());
  // The reply is about to leave: no heartbeat does, and nothing is stopped, afterwards. Returns why
  // the request was stopped, if it was: kCancelled, kDisconnected or kTimeout. May be repeated.
  std::optional<ErrorKind> end(Watched& watched);

  // What the system says of a connection.
  struct Ahead {
    bool gone = false, writable = true, readable = true;
  };

 private:
  void watch();
  static std::optional<ErrorKind> reason_to_stop(const Watched& watched, const Ahead& ahead,
                                                 Nanoseconds now);
  void look_at(Watched& watched, Nanoseconds now);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Watched*> all_;
  std::atomic<std::uint64_t> busy_{0};
  std::atomic<bool> asleep_{false};
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace outboard::serve
