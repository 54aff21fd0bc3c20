// SPDX-License-Identifier: Apache-2.0
#include "serve/session_pool.h"

#include <algorithm>
#include <optional>

#include "base/log.h"
#include "serve/convert.h"
#include "wire/messages.h"

namespace outboard::serve {

// Under the pool's mutex, but for what is set once before `state` becomes kOpen.
struct SessionPool::Entry {
  enum class State { kOpening, kOpen, kFailed } state = State::kOpening;
  std::optional<Error> failure;
  std::unique_ptr<PinnedModel> pin;
  std::shared_ptr<engine::Session> session;
  std::string description;
  double open_ms = 0;
  std::uint64_t users = 0;
  Nanoseconds idle_since{};
  std::atomic<std::uint64_t> runs{0};
};

SessionPool::Use::~Use() {
  if (!entry_) return;
  const std::lock_guard lock(pool_->mutex_);
  if (--entry_->users > 0) return;
  entry_->idle_since = Clock::monotonic().now();
  pool_->changed_.notify_all();  // the janitor's next date may be this one
}

engine::Session& SessionPool::Use::session() const { return *entry_->session; }
const std::string& SessionPool::Use::description() const { return entry_->description; }
void SessionPool::Use::count_run() const { entry_->runs.fetch_add(1, std::memory_order_relaxed); }

SessionPool::SessionPool(engine::Engine& engine, ModelSource& models, Options options)
    : engine_(engine),
      models_(models),
      options_(options),
      quota_sessions_(options.quota_sessions),
      quota_model_bytes_(options.quota_model_bytes),
      janitor_([this] { close_expired(); }) {}

SessionPool::~SessionPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  janitor_.join();
}

Result<SessionPool::Use> SessionPool::open(const Sha256& model,
                                           const engine::OpenOptions& options) {
  const Key key(model, options_key(options));
  Doomed doomed;
  std::unique_lock lock(mutex_);
  if (const auto found = entries_.find(key); found != entries_.end())
    return wait_for(found->second, std::move(lock));
  lock.unlock();
  const auto entry = std::make_shared<Entry>();
  entry->users = 1;
  OB_TRY(entry->pin, models_.pin(model));
  lock.lock();
  if (const auto found = entries_.find(key); found != entries_.end())
    return wait_for(found->second, std::move(lock));  // somebody else was sooner
  OB_CHECK_OK(make_place(entry->pin->size_bytes(), doomed));
  entries_.emplace(key, entry);
  lock.unlock();

  Use use(*this, entry);
  auto opened = open_engine_session(*entry, model, options);
  lock.lock();
  if (opened) {
    entry->state = Entry::State::kOpen;
  } else {
    // Those who wait hear of it; the next one tries again.
    entry->state = Entry::State::kFailed;
    entry->failure = opened.error();
    entries_.erase(key);
  }
  changed_.notify_all();
  lock.unlock();
  if (!opened) return tl::make_unexpected(std::move(opened).error());
  return use;
}

// Takes part in a session that is there, or on its way.
Result<SessionPool::Use> SessionPool::wait_for(std::shared_ptr<Entry> entry,
                                               std::unique_lock<std::mutex> lock) {
  Entry& held = *entry;  // `use` keeps it: it may go from the map
  ++held.users;
  Use use(*this, std::move(entry));  // gives back after the mutex is free
  changed_.wait(lock, [&] { return held.state != Entry::State::kOpening; });
  lock.unlock();
  if (const std::optional<Error> failure = held.failure) return tl::make_unexpected(*failure);
  return use;
}

Result<void> SessionPool::open_engine_session(Entry& entry, const Sha256& model,
                                              const engine::OpenOptions& options) {
  const Nanoseconds start = Clock::monotonic().now();
  OB_TRY(entry.session, engine_.open(entry.pin->path(), options));
  entry.open_ms =
      std::chrono::duration<double, std::milli>(Clock::monotonic().now() - start).count();
  OB_TRY(const auto description, to_wire(entry.session->info()));
  entry.description = wire::encode(description);
  log_info("session opened model={} inputs={} outputs={} ms={:.1f}", model.hex().substr(0, 12),
           description.inputs.size(), description.outputs.size(), entry.open_ms);
  return {};
}

// Closes the sessions that have been idle for longest until one more fits. Called with the mutex
// held.
Result<void> SessionPool::make_place(std::uint64_t model_bytes, Doomed& doomed) {
  for (;;) {
    auto fits = check_quota(model_bytes);
    if (fits) return fits;
    auto oldest = entries_.end();
    for (auto i = entries_.begin(); i != entries_.end(); ++i)
      if (i->second->users == 0 &&
          (oldest == entries_.end() || i->second->idle_since < oldest->second->idle_since))
        oldest = i;
    if (oldest == entries_.end()) return fits;
    doomed.push_back(std::move(oldest->second));
    entries_.erase(oldest);
  }
}

Result<void> SessionPool::check_quota(std::uint64_t model_bytes) const {
  if (entries_.size() >= options_.max_sessions)
    return error(ErrorKind::kOverloaded, "the number of sessions ({}) is at its limit",
                 entries_.size());
  if (quota_sessions_ > 0 && entries_.size() >= quota_sessions_)
    return error(ErrorKind::kRefused, "the tenant has as many sessions as it may ({})",
                 quota_sessions_);
  if (quota_model_bytes_ == 0) return {};
  std::uint64_t open_bytes = 0;
  for (const auto& [key, entry] : entries_) open_bytes += entry->pin->size_bytes();
  if (model_bytes > quota_model_bytes_ || open_bytes > quota_model_bytes_ - model_bytes)
    return error(ErrorKind::kRefused,
                 "the tenant's models would take {} bytes of the device's memory, beside {} that "
                 "are in use, where it may have {}",
                 model_bytes, open_bytes, quota_model_bytes_);
  return {};
}

void SessionPool::set_quota(std::uint64_t sessions, std::uint64_t model_bytes) {
  const std::lock_guard lock(mutex_);
  quota_sessions_ = sessions;
  quota_model_bytes_ = model_bytes;
}

std::size_t SessionPool::close_idle() {
  Doomed doomed;
  const std::lock_guard lock(mutex_);
  for (auto i = entries_.begin(); i != entries_.end();) {
    if (i->second->users > 0) {
      ++i;
      continue;
    }
    doomed.push_back(std::move(i->second));
    i = entries_.erase(i);
  }
  return doomed.size();
}

std::vector<SessionPool::Row> SessionPool::rows() const {
  const std::lock_guard lock(mutex_);
  std::vector<Row> rows;
  for (const auto& [key, entry] : entries_)
    if (entry->state == Entry::State::kOpen)
      rows.push_back({key.first, entry->users, entry->runs, entry->open_ms});
  return rows;
}

// The janitor's thread: sleeps until the next session has been idle for long enough.
void SessionPool::close_expired() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const Nanoseconds now = Clock::monotonic().now();
    Nanoseconds next = Nanoseconds::max();
    Doomed doomed;
    for (auto i = entries_.begin(); i != entries_.end();) {
      const Nanoseconds end = i->second->idle_since + options_.idle_time;
      if (i->second->users > 0 || end > now) {
        if (i->second->users == 0) next = std::min(next, end);
        ++i;
        continue;
      }
      log_info("session closed model={}", i->first.first.hex().substr(0, 12));
      doomed.push_back(std::move(i->second));
      i = entries_.erase(i);
    }
    if (!doomed.empty()) {
      lock.unlock();
      doomed.clear();
      lock.lock();
      continue;
    }
    if (next == Nanoseconds::max()) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, std::chrono::steady_clock::time_point(next));
    }
  }
}

}  // namespace outboard::serve
