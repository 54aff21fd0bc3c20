// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/server_link.h"

#include <algorithm>

#include "base/background.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "intercept/common/process.h"
#include "intercept/common/session.h"

namespace outboard::intercept {
namespace {

using std::chrono::milliseconds;
// Probes: often enough to see a step within two seconds, small enough to cost nothing that is felt.
constexpr milliseconds kProbeInterval{400}, kWatched{3000};
constexpr std::size_t kProbeBytes = 16'000;
// A server that was slow is used again when its bytes pass in so many times what they took before.
constexpr double kSlower = 3;
constexpr double kLeastLimitUs =
    static_cast<double>(std::chrono::microseconds(limits::kStallTimeout).count());

bool means_lost(ErrorKind kind) {
  return kind == ErrorKind::kDisconnected || kind == ErrorKind::kMaybeExecuted ||
         kind == ErrorKind::kTimeout;
}

}  // namespace

ServerLink::ServerLink(Process& process, wire::Access server)
    : process_(process),
      address_(server.endpoint.to_string()),
      client_(std::move(server), process.client_options()),
      backoff_(process.random()) {}

void ServerLink::set_state(State state) {
  State before = state_.load(std::memory_order_acquire);
  do {
    if (before == state || before == State::kDistrusted) return;
  } while (!state_.compare_exchange_weak(before, state, std::memory_order_acq_rel));
  if (state == State::kUp) {
    if (before != State::kUnknown) log_info("server ({}) answers again", address_);
    process_.server_is_up();
  }
}

bool ServerLink::note(const Error& error) {
  const bool lost = means_lost(error.kind);
  if (!lost && error.kind != ErrorKind::kOverloaded) return false;
  std::unique_lock lock(mutex_);
  const State before = state();
  set_state(lost ? State::kDown : State::kDraining);
  if (before == State::kUp || before == State::kUnknown) {
    // The pool's other connections lead to the same server.
    if (lost) client_.drop_idle();
    process_.server_is_lost(*this, error);
  }
  start_thread(lock);
  wake_.notify_all();
  return true;
}

void ServerLink::suspect(const std::string& why, std::uint64_t bytes) {
  std::unique_lock lock(mutex_);
  if (!usable()) return;
  suspect_bytes_ = std::min<std::uint64_t>(bytes, kProbeBytes);
  suspect_limit_us_ = std::max(
      kLeastLimitUs, kSlower * beyond_compute_us(estimate_.view(), suspect_bytes_, suspect_bytes_));
  set_state(State::kSilent);
  if (bytes == 0) {
    process_.server_is_lost(*this, {ErrorKind::kTimeout, why, 0});
  } else {
    log_info("{}; inference runs elsewhere until it is as fast as before", why);
  }
  start_thread(lock);
  wake_.notify_all();
}

void ServerLink::suspect_silence(double unheard_us) {
  suspect(fmt::format("server ({}) has said nothing for {:.0f} ms", address_, unheard_us / 1e3), 0);
}

void ServerLink::suspect_slowness(double elapsed_us, std::uint64_t bytes) {
  suspect(fmt::format("server ({}) has not answered a Run within {:.0f} ms", address_,
                      elapsed_us / 1e3),
          std::max<std::uint64_t>(bytes, 1));
}

void ServerLink::distrust() {
  set_state(State::kDistrusted);
  stop();
}

Result<wire::HelloReply> ServerLink::hello() {
  auto reply = client_.hello();
  if (!reply) {
    note(reply.error());
  } else if (state() == State::kUnknown) {
    set_state(State::kUp);
  }
  return reply;
}

Result<std::shared_ptr<wire::RemoteSession>> ServerLink::open(
    const wire::ModelPackage& model, const wire::SessionOptions& options, bool upload,
    const wire::Client::Progress& progress) {
  const auto attempt = [&]() -> Result<std::shared_ptr<wire::RemoteSession>> {
    OB_TRY(const wire::ModelState have, client_.query(model.manifest()));
    if (!have.complete) {
      if (!upload) {
        return error(ErrorKind::kNotFound, "server ({}) does not have the model yet", address_);
      }
      const std::lock_guard one_at_a_time(upload_mutex_);
      OB_CHECK_OK(client_.upload(model, [&](std::uint64_t done, std::uint64_t total) {
        return !stopping_.load() && (!progress || progress(done, total));
      }));
    }
    return client_.open(model.id(), options);
  };
  auto session = attempt();
  // It answered, if only to refuse. Being full for one model says nothing of the others.
  const bool lost = !session && means_lost(session.error().kind) && note(session.error());
  if (!lost && state() == State::kUnknown) set_state(State::kUp);
  return session;
}

void ServerLink::enqueue(const std::shared_ptr<Session>& session, std::chrono::milliseconds delay) {
  std::unique_lock lock(mutex_);
  queue_.push_back({session, Clock::monotonic().now() + delay});
  start_thread(lock);
  wake_.notify_all();
}

bool ServerLink::is_watched() const {
  return knows_probes_.load(std::memory_order_relaxed) &&
         Clock::monotonic().now().count() < watched_until_ns_.load(std::memory_order_relaxed);
}

void ServerLink::watch() {
  const bool was_watched = is_watched();
  const Nanoseconds until = Clock::monotonic().now() + kWatched;
  watched_until_ns_.store(until.count(), std::memory_order_relaxed);
  if (was_watched || !knows_probes_.load(std::memory_order_relaxed)) return;
  std::unique_lock lock(mutex_);
  start_thread(lock);
  wake_.notify_all();
}

wire::Client::Progress ServerLink::behind_runs() {
  return [this, last = Clock::monotonic().now()](std::uint64_t, std::uint64_t) mutable {
    const Nanoseconds took = Clock::monotonic().now() - last;
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, std::min<Nanoseconds>(3 * took, kWatched),
                   [&] { return stopping_.load(); });
    last = Clock::monotonic().now();
    return true;
  };
}

void ServerLink::probe() { probe(kProbeBytes); }

void ServerLink::probe(std::uint64_t bytes) {
  if (!knows_probes_.load(std::memory_order_relaxed)) return;
  const auto found = client_.probe(bytes, bytes);
  if (!found) {
    if (found.error().kind == ErrorKind::kUnimplemented) knows_probes_.store(false);
    note(found.error());
    return;
  }
  const auto us = [](std::uint64_t ns) { return static_cast<double>(ns) / 1e3; };
  estimate_.exchanged({.sent_bytes = found->bytes_sent,
                       .received_bytes = found->bytes_received,
                       .until_reply_us = us(found->until_reply_ns),
                       .receive_us = us(found->receive_ns),
                       .server_receive_us = us(found->server.receive_ns),
                       .server_busy_us = 0});
  estimate_.waits(us(found->server.wait_ns));
  if (found->server.is_draining)
    note({ErrorKind::kOverloaded, fmt::format("server ({}) is draining", address_), 0});
}

void ServerLink::stop() {
  const std::lock_guard lock(mutex_);
  stopping_.store(true);
  wake_.notify_all();
}

void ServerLink::start_thread(const std::unique_lock<std::mutex>&) {
  if (has_thread_ || stopping_.load()) return;
  has_thread_ = true;
  start_in_background([this] {
    work();
    // A thread that ends destroys what the library keeps for it: not while the process ends.
    process_.in_vendor_code([] {});
  });
}

void ServerLink::wait_until_it_answers(std::unique_lock<std::mutex>& lock) {
  wake_.wait_for(lock, backoff_.next(), [&] { return stopping_.load(); });
  if (stopping_.load()) return;
  const std::uint64_t bytes = suspect_bytes_;
  const double limit_us = suspect_limit_us_;
  lock.unlock();
  client_.drop_idle();
  const bool answers = client_.ping().has_value();
  const bool is_back = answers && is_fast_enough(bytes, limit_us);
  lock.lock();
  // It may have been fast for the last of the bytes only: so it is asked again at once.
  if (answers && !is_back) backoff_.reset();
  if (!is_back) return;
  suspect_bytes_ = 0;
  set_state(State::kUp);
}

bool ServerLink::is_fast_enough(std::uint64_t bytes, double limit_us) {
  if (bytes == 0) return true;
  const Nanoseconds start = Clock::monotonic().now();
  probe(bytes);
  return static_cast<double>((Clock::monotonic().now() - start).count()) / 1e3 <= limit_us;
}

bool ServerLink::has_due() const {
  const Nanoseconds now = Clock::monotonic().now();
  return std::any_of(queue_.begin(), queue_.end(),
                     [&](const Waiting& waiting) { return waiting.due <= now; });
}

// The first session in the queue whose time has come; nullptr: look again.
std::shared_ptr<Session> ServerLink::next_due(std::unique_lock<std::mutex>& lock) {
  if (queue_.empty()) {
    wake_.wait(lock);
    return nullptr;
  }
  const auto first = std::min_element(queue_.begin(), queue_.end(),
                                      [](const auto& a, const auto& b) { return a.due < b.due; });
  const Nanoseconds now = Clock::monotonic().now();
  if (first->due > now) {
    wake_.wait_for(lock, first->due - now);
    return nullptr;
  }
  auto session = first->session.lock();
  queue_.erase(first);
  return session;
}

void ServerLink::work() {
  std::unique_lock lock(mutex_);
  while (!stopping_.load()) {
    if (!usable()) {
      wait_until_it_answers(lock);
      continue;
    }
    if (is_watched() && !has_due()) {
      lock.unlock();
      probe();
      lock.lock();
      wake_.wait_for(lock, kProbeInterval, [&] { return stopping_.load() || has_due(); });
      continue;
    }
    auto session = next_due(lock);
    if (session == nullptr) continue;
    lock.unlock();
    const bool again = !session->attach_in_background(*this);
    if (again) enqueue(session);
    // Perhaps the last owner, whose end closes what the vendor's library holds.
    process_.in_vendor_code([&] { session.reset(); });
    lock.lock();
    if (!again) backoff_.reset();
  }
}

}  // namespace outboard::intercept
