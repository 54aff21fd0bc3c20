// SPDX-License-Identifier: Apache-2.0
// The workers of a server: at most one process a tenant, started when a model is opened, started
// anew when it has ended (later and later where it ends at once again), ended when it is idle.
//
//   OB_TRY(auto workers, Workers::start(options));    // proves that one can be started
//   options.isolate = [workers](const TenantSpec& tenant) { return workers->engine_for(tenant); };
//
// Thread-safe. Engines keep what they need of it alive.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "engine/engine.h"
#include "serve/buffers.h"
#include "serve/tenant.h"
#include "serve/worker/cpu_shares.h"
#include "serve/worker/worker.h"

namespace outboard::serve {

// When a worker that has ended may be started again. Twice at once (a Run is made twice before its
// model is to blame); where it ends again within kSoon of its start, after a second, two, four, up
// to a minute. Pure.
class RestartDelay {
 public:
  static constexpr Nanoseconds kSoon = std::chrono::minutes(1), kFirst = std::chrono::seconds(1),
                               kLongest = std::chrono::minutes(1);
  static constexpr int kAtOnce = 2;
  void ended(Nanoseconds now, Nanoseconds lived);
  Nanoseconds left(Nanoseconds now) const;  // zero: it may start
  int times() const { return times_; }      // in a row

 private:
  int times_ = 0;
  Nanoseconds not_before_{};
};

class Workers : public std::enable_shared_from_this<Workers> {
 public:
  struct Options {
    // The program and its arguments; `--nice N` is added.
    std::vector<std::string> command;
    std::size_t most = 64;
    Nanoseconds idle_time = std::chrono::minutes(1);   // without an open model
    Nanoseconds open_limit = std::chrono::minutes(5);  // for opening a model
    Nanoseconds run_limit = std::chrono::minutes(5);   // for a Run, in the engine
    std::uint64_t memory_bytes = 0;  // what a worker may hold: no output is larger; 0: no limit
    bool share_cpu = false;          // between tenants, by the kernel (cpu_shares.h)
    double cores = 0;                // that they share; 0: the machine's
  };
  static Result<std::shared_ptr<Workers>> start(Options options);
  ~Workers();

  // What a worker said of its engine: an Engine that opens nothing.
  std::unique_ptr<engine::Engine> facts() const;
  std::unique_ptr<engine::Engine> engine_for(const TenantSpec& tenant);
  const Options& options() const { return options_; }
  // Whether the kernel shares the processor between the tenants, so that none need wait for
  // another's Runs: it was asked for, and the server may change its workers' priority both ways.
  bool share_cpu() const { return share_cpu_; }
  BufferPool& output_memory() { return output_memory_; }  // of Runs, kept for the next ones

  // Of a tenant from now on: its worker's priority at once, and that of the next one.
  void set_weight(const std::string& tenant, double weight);

  // A process for the tenant, which is entered. kOverloaded: too many, all at work.
  Result<std::shared_ptr<Worker>> make(const TenantSpec& tenant);

  struct Row {
    std::string tenant;
    std::int64_t pid = 0;
    std::uint64_t resident_bytes = 0, sessions = 0;
  };
  std::vector<Row> rows() const;
  std::uint64_t started() const { return started_.load(); }
  std::uint64_t failed() const { return failed_.load(); }  // ended by themselves, or by a limit
  void count_failure() { failed_.fetch_add(1); }

 private:
  explicit Workers(Options options) : options_(std::move(options)) {}
  Result<void> make_room();
  std::vector<std::shared_ptr<Worker>> alive() const;
  std::vector<std::shared_ptr<Worker>> alive_locked() const;  // called with the mutex held
  void keep_shares();

  const Options options_;
  BufferPool output_memory_{std::size_t{64} << 20};
  wire::HelloReply facts_;
  mutable std::mutex mutex_;
  std::shared_ptr<Worker> spare_;  // the one that gave the facts, until a tenant takes it
  std::vector<std::weak_ptr<Worker>> all_;
  std::map<std::string, double> weights_;  // of set_weight(), by tenant
  std::atomic<std::uint64_t> started_{0}, failed_{0};
  bool share_cpu_ = false;
  std::condition_variable stopped_;
  bool stopping_ = false;
  std::thread share_keeper_;
};

}  // namespace outboard::serve
