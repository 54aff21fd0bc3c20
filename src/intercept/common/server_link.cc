// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/server_link.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "base/log.h"
#include "intercept/common/process.h"
#include "intercept/common/session.h"

namespace outboard::intercept {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kFirstBackoff{50}, kLastBackoff{5000};

bool means_lost(ErrorKind kind) {
  return kind == ErrorKind::kDisconnected || kind == ErrorKind::kMaybeExecuted ||
         kind == ErrorKind::kTimeout;
}

}  // namespace

ServerLink::ServerLink(Process& process, wire::Endpoint endpoint)
    : process_(process),
      address_(endpoint.to_string()),
      client_(std::move(endpoint), process.client_options()),
      backoff_(kFirstBackoff) {}

void ServerLink::set_state(State state) {
  const State before = state_.exchange(state, std::memory_order_acq_rel);
  if (before == state) return;
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
  // It answered, if only to refuse.
  if (session || (!note(session.error()) && state() == State::kUnknown)) set_state(State::kUp);
  return session;
}

void ServerLink::enqueue(const std::shared_ptr<Session>& session) {
  std::unique_lock lock(mutex_);
  queue_.push_back(session);
  start_thread(lock);
  wake_.notify_all();
}

void ServerLink::stop() {
  stopping_.store(true);
  wake_.notify_all();
}

void ServerLink::start_thread(const std::unique_lock<std::mutex>&) {
  if (has_thread_ || stopping_.load()) return;
  has_thread_ = true;
  // The program's signals are for the program's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  std::thread([this] {
    pthread_setname_np(pthread_self(), "outboard");
    work();
  }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void ServerLink::wait_until_it_answers(std::unique_lock<std::mutex>& lock) {
  wake_.wait_for(lock, backoff_, [&] { return stopping_.load(); });
  backoff_ = std::min(backoff_ * 2, kLastBackoff);
  if (stopping_.load()) return;
  lock.unlock();
  client_.drop_idle();
  const bool answers = client_.ping().has_value();
  lock.lock();
  if (answers) set_state(State::kUp);
}

void ServerLink::work() {
  std::unique_lock lock(mutex_);
  while (!stopping_.load()) {
    if (!usable()) {
      wait_until_it_answers(lock);
      continue;
    }
    if (queue_.empty()) {
      wake_.wait(lock);
      continue;
    }
    const std::weak_ptr<Session> next = queue_.front();
    queue_.pop_front();
    lock.unlock();
    bool again = false;
    if (auto session = next.lock()) {
      again = !session->attach_in_background(*this);
      // Perhaps the last owner, whose end closes what the vendor's library holds.
      process_.in_vendor_code([&] { session.reset(); });
    }
    lock.lock();
    if (again) {
      queue_.push_back(next);
    } else {
      backoff_ = kFirstBackoff;
    }
  }
}

}  // namespace outboard::intercept
