// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/hedge_watch.h"

#include <algorithm>
#include <chrono>

#include "base/clock.h"

namespace outboard::intercept {
namespace {

constexpr std::int64_t kIdleNs = 10'000'000'000;

}  // namespace

void HedgeWatch::add(Entry& entry, std::int64_t due_ns) {
  const std::lock_guard lock(mutex_);
  entry.due_ns_ = due_ns;
  entry.before_ = nullptr;
  entry.next_ = first_;
  if (first_ != nullptr) first_->before_ = &entry;
  first_ = &entry;
  if (!at_work_) {
    at_work_ = true;
    wakes_at_ns_ = due_ns;
    pool_.post([this] { work(); }, kThreads);
  } else if (due_ns < wakes_at_ns_) {
    wakes_at_ns_ = due_ns;
    wake_.notify_one();
  }
}

void HedgeWatch::remove(Entry& entry) {
  const std::lock_guard lock(mutex_);
  (entry.before_ == nullptr ? first_ : entry.before_->next_) = entry.next_;
  if (entry.next_ != nullptr) entry.next_->before_ = entry.before_;
}

void HedgeWatch::work() {
  const Clock& clock = Clock::monotonic();
  std::unique_lock lock(mutex_);
  std::int64_t busy_ns = clock.now().count();
  for (;;) {
    const std::int64_t now_ns = clock.now().count();
    std::int64_t next_ns = kNever;
    for (Entry* entry = first_; entry != nullptr; entry = entry->next_) {
      if (entry->due_ns_ <= now_ns) entry->due_ns_ = entry->look(now_ns);
      next_ns = std::min(next_ns, entry->due_ns_);
    }
    if (first_ != nullptr) busy_ns = now_ns;
    if (now_ns - busy_ns >= kIdleNs) break;
    wakes_at_ns_ = std::min(next_ns, now_ns + kIdleNs);
    wake_.wait_for(lock, std::chrono::nanoseconds(wakes_at_ns_ - now_ns));
  }
  at_work_ = false;
}

}  // namespace outboard::intercept
