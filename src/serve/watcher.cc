// SPDX-License-Identifier: Apache-2.0
#include "serve/watcher.h"

#include <poll.h>

#include <algorithm>
#include <array>

#include "base/limits.h"
#include "wire/messages.h"

namespace outboard::serve {
namespace {

// How long it keeps looking after the last request, so that a stream of short Runs does not wake
// it for each.
constexpr int kTicksBeforeSleep = 100;

using Ahead = Watcher::Ahead;

Ahead ask_system(int fd) {
  if (fd < 0) return {};  // the in-process pair has nothing to poll
  pollfd poller{.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP, .revents = 0};
  if (::poll(&poller, 1, 0) < 0) return {};
  return {.gone = (poller.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL)) != 0,
          .writable = (poller.revents & POLLOUT) != 0,
          .readable = (poller.revents & POLLIN) != 0};
}

// Whether the next thing that the peer has sent ahead is a cancel of this request.
Result<bool> cancel_ahead(wire::Connection& connection, std::uint64_t request_id) {
  std::array<std::byte, wire::kFrameHeaderBytes> bytes{};
  const auto buffered = connection.buffered();
  const std::size_t first = std::min(buffered.size(), bytes.size());
  std::copy_n(buffered.begin(), first, bytes.begin());
  std::size_t have = first;
  if (first < bytes.size()) {
    OB_TRY(const std::size_t more, connection.stream().peek(std::span(bytes).subspan(first)));
    have += more;
  }
  if (have < bytes.size()) return false;
  const auto header = wire::decode_frame_header(bytes);  // an error is its reader's to tell
  return header && header->kind == wire::FrameKind::kCancel && header->request_id == request_id;
}

}  // namespace

std::optional<ErrorKind> Watcher::reason_to_stop(const Watched& watched, const Ahead& ahead,
                                                 Nanoseconds now) {
  if (ahead.gone) return ErrorKind::kDisconnected;
  if (ahead.readable || watched.connection_.buffered_bytes() > 0 ||
      watched.connection_.stream().holds_bytes()) {
    const auto cancel = cancel_ahead(watched.connection_, watched.request_id_);
    if (!cancel) return ErrorKind::kDisconnected;
    if (*cancel) return ErrorKind::kCancelled;
  }
  if (now >= watched.deadline_.at) return ErrorKind::kTimeout;
  return std::nullopt;
}

Watcher::Watcher() : thread_([this] { watch(); }) {}

Watcher::~Watcher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Watcher::add(Watched& watched) {
  const std::lock_guard lock(mutex_);
  all_.push_back(&watched);
}

void Watcher::remove(Watched& watched) {
  const std::lock_guard lock(mutex_);
  std::erase(all_, &watched);
}

void Watcher::begin(Watched& watched, std::uint64_t request_id, Nanoseconds now) {
  {
    const std::lock_guard lock(watched.mutex_);
    watched.request_id_ = request_id;
    watched.received_ = false;
    watched.next_heartbeat_ = now + limits::kHeartbeatInterval;
    watched.stopped_.reset();
    watched.busy_ = true;
  }
  // Sequentially consistent: either we see it asleep, or it sees us busy before it falls asleep.
  busy_.fetch_add(1);
  if (asleep_) {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
  }
}

void Watcher::received(Watched& watched, Deadline deadline) {
  const std::lock_guard lock(watched.mutex_);
  watched.deadline_ = deadline;
  watched.received_ = true;
}

std::optional<ErrorKind> Watcher::end(Watched& watched) {
  const std::lock_guard lock(watched.mutex_);
  if (watched.busy_.exchange(false)) busy_.fetch_sub(1);
  return watched.stopped_;
}

void Watcher::watch() {
  std::unique_lock lock(mutex_);
  for (int idle_ticks = 0; !stopping_;) {
    if (busy_ == 0 && ++idle_ticks > kTicksBeforeSleep) {
      asleep_ = true;
      changed_.wait(lock, [&] { return stopping_ || busy_ > 0; });
      asleep_ = false;
    }
    if (busy_ > 0) idle_ticks = 0;
    if (changed_.wait_for(lock, kTick, [&] { return stopping_; })) break;
    const Nanoseconds now = Clock::monotonic().now();
    for (Watched* watched : all_)
      if (watched->busy_.load(std::memory_order_relaxed)) look_at(*watched, now);
  }
}

void Watcher::look_at(Watched& watched, Nanoseconds now) {
  const std::lock_guard lock(watched.mutex_);
  if (!watched.busy_) return;
  const Ahead ahead = ask_system(watched.connection_.stream().poll_fd());
  if (watched.received_ && !watched.stopped_) {
    watched.stopped_ = reason_to_stop(watched, ahead, now);
    if (watched.stopped_) watched.stop_();
  }
  // A client that does not read must not hold the others' heartbeats up.
  if (now < watched.next_heartbeat_ || !ahead.writable || ahead.gone) return;
  watched.next_heartbeat_ = now + limits::kHeartbeatInterval;
  watched.connection_.try_send(
      {.kind = wire::FrameKind::kHeartbeat, .request_id = watched.request_id_},
      wire::encode(wire::Heartbeat{watched.queue_depth_()}));
}

}  // namespace outboard::serve
