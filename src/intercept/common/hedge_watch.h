// SPDX-License-Identifier: Apache-2.0
// Looks after the Runs of this process that wait for a server, from a thread of its own, because
// their own threads are inside a read. It sleeps until the first of them is due, so a Run that is
// answered in time costs a lock and no system call.
//
// Thread-safe; belongs to one Process, which never destroys it. The thread starts when there is
// something to look after and ends when there was nothing for a while.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>

#include "intercept/common/async_pool.h"

namespace outboard::intercept {

class HedgeWatch {
 public:
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  // Of the pool: the watch itself, and the second tries of so many Runs at once.
  static constexpr std::size_t kThreads = 65;

  // A Run; the watch's from add() to remove().
  class Entry {
   public:
    virtual ~Entry() = default;
    // Called when it is due, on the watch's thread and under its lock, so never during or after
    // remove(). Returns when it is due again, or kNever; monotonic nanoseconds.
    virtual std::int64_t look(std::int64_t now_ns) = 0;

   private:
    friend class HedgeWatch;
    std::int64_t due_ns_ = kNever;
    Entry *before_ = nullptr, *next_ = nullptr;
  };

  // What look() starts runs on `pool` as well.
  explicit HedgeWatch(AsyncPool& pool) : pool_(pool) {}
  void add(Entry& entry, std::int64_t due_ns);
  void remove(Entry& entry);

 private:
  void work();
  AsyncPool& pool_;
  std::mutex mutex_;
  std::condition_variable wake_;
  Entry* first_ = nullptr;
  bool at_work_ = false;          // there is a thread
  std::int64_t wakes_at_ns_ = 0;  // when it looks next
};

}  // namespace outboard::intercept
