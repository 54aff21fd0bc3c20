// SPDX-License-Identifier: Apache-2.0
// The engine's sessions, shared by all clients with the same model and options: opened once even
// when many ask at once, kept for a while when nobody uses them any more, then closed.
//
// Thread-safe; one thread of its own closes what has been idle for too long. Uses borrow the pool,
// which must outlive them.
// Errors of open(): the models' source's, the engine's, kOverloaded when too many sessions are in
// use, and kRefused when it is the quota (a tenant's own limit) that they are at.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "engine/engine.h"
#include "serve/model_source.h"

namespace outboard::serve {

class SessionPool {
 public:
  struct Options {
    std::size_t max_sessions = 256;
    std::chrono::nanoseconds idle_time = std::chrono::minutes(5);
    std::uint64_t quota_sessions = 0;     // 0: none
    std::uint64_t quota_model_bytes = 0;  // files of all models that are open; 0: none
  };
  SessionPool(engine::Engine& engine, ModelSource& models, Options options);
  ~SessionPool();
  SessionPool(const SessionPool&) = delete;
  SessionPool& operator=(const SessionPool&) = delete;

  struct Entry;
  // One client's use of a session. Moves; the session stays open at least as long.
  class Use {
   public:
    Use(Use&& other) noexcept : pool_(other.pool_), entry_(std::move(other.entry_)) {}
    Use& operator=(Use&&) = delete;
    ~Use();
    engine::Session& session() const;
    const std::string& description() const;  // the payload of kSessionOpened
    void count_run() const;

   private:
    friend class SessionPool;
    Use(SessionPool& pool, std::shared_ptr<Entry> entry) : pool_(&pool), entry_(std::move(entry)) {}
    SessionPool* pool_;
    std::shared_ptr<Entry> entry_;
  };

  Result<Use> open(const Sha256& model, const engine::OpenOptions& options);
  void set_quota(std::uint64_t sessions, std::uint64_t model_bytes);
  // Closes what nobody uses, so that its models may go from the store; returns how many.
  std::size_t close_idle();

  struct Row {
    Sha256 model;
    std::uint64_t users = 0, runs = 0;
    double open_ms = 0;
  };
  std::vector<Row> rows() const;

 private:
  using Key = std::pair<Sha256, std::string>;
  using Doomed = std::vector<std::shared_ptr<Entry>>;  // destroyed after the mutex is free

  Result<void> open_engine_session(Entry& entry, const Sha256& model,
                                   const engine::OpenOptions& options);
  Result<Use> wait_for(std::shared_ptr<Entry> entry, std::unique_lock<std::mutex> lock);
  Result<void> make_place(std::uint64_t model_bytes, Doomed& doomed);
  Result<void> check_quota(std::uint64_t model_bytes) const;
  void close_expired();

  engine::Engine& engine_;
  ModelSource& models_;
  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Key, std::shared_ptr<Entry>> entries_;
  std::uint64_t quota_sessions_, quota_model_bytes_;
  bool stopping_ = false;
  std::thread janitor_;
};

}  // namespace outboard::serve
