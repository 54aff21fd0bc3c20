// SPDX-License-Identifier: Apache-2.0
#include "serve/threads.h"

#include <memory>
#include <system_error>
#include <utility>

namespace outboard::serve {

struct Threads::Start {
  Threads* threads;
  std::function<void()> body;
};

void* Threads::run(void* start) {
  Threads* threads = nullptr;
  {
    const std::unique_ptr<Start> owned(static_cast<Start*>(start));
    threads = owned->threads;
    owned->body();
  }
  threads->ended();
  return nullptr;
}

Result<void> Threads::start(std::function<void()> body) {
  // The thread's own, once there is one.
  auto* start = new Start{this, std::move(body)};
  {
    const std::lock_guard lock(mutex_);
    ++running_;
  }
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  const int code = ::pthread_create(&thread, &attributes, &Threads::run, start);
  ::pthread_attr_destroy(&attributes);
  if (code == 0) return {};
  delete start;
  const std::lock_guard lock(mutex_);
  --running_;
  changed_.notify_all();
  return error(ErrorKind::kOverloaded, "no thread could be started: {}",
               std::generic_category().message(code));
}

void Threads::ended() {
  std::optional<pthread_t> before;
  {
    const std::lock_guard lock(mutex_);
    before = std::exchange(last_ended_, ::pthread_self());
  }
  if (before) ::pthread_join(*before, nullptr);
  const std::lock_guard lock(mutex_);
  --running_;
  changed_.notify_all();
}

std::size_t Threads::running() const {
  const std::lock_guard lock(mutex_);
  return running_;
}

void Threads::wait_for_all() {
  std::optional<pthread_t> last;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return running_ == 0; });
    last = std::exchange(last_ended_, std::nullopt);
  }
  if (last) ::pthread_join(*last, nullptr);
}

}  // namespace outboard::serve
