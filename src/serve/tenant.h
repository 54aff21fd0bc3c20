// SPDX-License-Identifier: Apache-2.0
// A tenant: whoever shares one name, one share of the device, and one set of limits. It has a store
// and a pool of sessions of its own and shares nothing with another but the device's time, so that
// nobody learns from the server what another has: a model that another has uploaded is not there.
// Who comes over loopback or a unix socket without a token is the tenant "local": the operator.
//
// Thread-safe. A tenant lives as long as its Tenants.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "engine/engine.h"
#include "serve/device_queue.h"
#include "serve/session_pool.h"
#include "serve/statistics.h"
#include "serve/store.h"

namespace outboard::serve {

inline constexpr std::string_view kLocalTenant = "local";

// Zero: none but the server's own.
struct TenantLimits {
  std::uint64_t connections = 0;
  std::uint64_t sessions = 0;         // engine sessions: different models or options
  std::uint64_t concurrent_runs = 0;  // that wait or compute
  std::uint64_t in_flight_bytes = 0;  // inputs of Runs under way
  std::uint64_t store_bytes = 0;
  std::uint64_t device_memory_bytes = 0;  // files of the models that sessions have open
  double runs_per_s = 0;                  // over a second: so many may come at once
  bool operator==(const TenantLimits&) const = default;
};

struct TenantSpec {
  std::string name;
  double weight = 1;  // of its share of the device's time
  TenantLimits limits;
  bool operator==(const TenantSpec&) const = default;
};

// kInvalid unless it can be a folder's name: letters, digits, '.', '_' and '-', at most 64, not
// with a '.' first, not "local".
Result<void> check_tenant_name(std::string_view name);

// Called with a tenant's weight when the tenant is made, and when it has changed.
using OnWeight = std::function<void(const std::string& tenant, double weight)>;
// Which engine computes for a tenant: one that all share, or one of its own (a worker process).
using EngineOf = std::function<std::shared_ptr<engine::Engine>(const TenantSpec& tenant)>;
// Whether it has a share of the device that something else sees to (the kernel), so that its Runs
// need not wait for others'.
using HasShare = std::function<bool(const TenantSpec& tenant)>;

// So many events a second, as many at once. Pure; not thread-safe.
class TokenBucket {
 public:
  // Whether one may come now. `rate_per_s` 0: always.
  bool take(double rate_per_s, Nanoseconds now);

 private:
  double tokens_ = -1;  // -1: full
  Nanoseconds last_{};
};

class Tenant {
 public:
  // `queue`: for the device that it shares with others; borrowed. nullptr: it has one of its own.
  // `models`: where sessions' models come from; nullptr: the store.
  struct Place {
    DeviceQueue* queue = nullptr;
    std::size_t slots = 1;  // of its own queue
  };
  Tenant(TenantSpec spec, std::shared_ptr<engine::Engine> engine, Place place,
         std::unique_ptr<Store> store, SessionPool::Options sessions,
         ModelSource* models = nullptr);

  const std::string& name() const { return name_; }
  bool is_local() const { return name_ == kLocalTenant; }
  TenantSpec spec() const;
  engine::Engine& engine() const { return *engine_; }
  Store& store() const { return *store_; }
  SessionPool& sessions() { return sessions_; }
  const SessionPool& sessions() const { return sessions_; }
  // Where its Runs wait for the device: among others' by weight, or alone.
  DeviceQueue& queue() const { return queue_; }
  bool has_own_queue() const { return own_queue_ != nullptr; }
  std::uint32_t queue_depth() const { return queue_.depth(flow_); }
  FairFlow& flow() { return flow_; }
  const FairFlow& flow() const { return flow_; }
  Statistics& statistics() { return statistics_; }
  const Statistics& statistics() const { return statistics_; }

  // A Run that has come: kOverloaded with a sentence when the tenant has as many under way as it
  // may, or sent as many within the second. Otherwise counted, until run_ended().
  Result<void> run_begins(Nanoseconds now);
  void run_ended() { concurrent_runs_.fetch_sub(1, std::memory_order_relaxed); }
  // The same for a connection.
  Result<void> connection_begins(std::uint64_t server_limit);
  void connection_ended() { statistics_.connections.fetch_sub(1); }
  std::uint64_t in_flight_limit() const { return in_flight_limit_; }

 private:
  friend class Tenants;
  bool update(const TenantSpec& spec);  // whether its weight has changed

  const std::string name_;
  mutable std::mutex mutex_;
  TenantSpec spec_;
  TokenBucket bucket_;
  std::atomic<std::uint64_t> in_flight_limit_, concurrent_limit_;
  std::atomic<bool> has_rate_;
  std::uint64_t default_store_bytes_ = 0;  // where the limits name none
  std::atomic<std::uint64_t> concurrent_runs_{0};
  const std::shared_ptr<engine::Engine> engine_;
  const std::unique_ptr<Store> store_;
  SessionPool sessions_;
  const std::unique_ptr<DeviceQueue> own_queue_;  // empty: it shares
  DeviceQueue& queue_;
  FairFlow flow_;
  Statistics statistics_;
};

class Tenants {
 public:
  // The tenant "local" has the store's folder itself, others FOLDER/tenants/NAME.
  Tenants(EngineOf engine_of, HasShare has_share, DeviceQueue& queue, Store::Options store,
          std::unique_ptr<Store> local_store, SessionPool::Options sessions,
          ModelSource* local_models);

  Tenant& local() { return *local_; }
  const Tenant& local() const { return *local_; }
  // The tenant of this name, made when it comes first, with the limits that `spec` has. Errors are
  // those of Store::open.
  Result<Tenant*> get(const TenantSpec& spec);
  void update(const TenantSpec& spec);                             // if it is there
  void on_weight(OnWeight call) { on_weight_ = std::move(call); }  // before there is another tenant
  std::vector<const Tenant*> all() const;                          // "local" first
  std::uint32_t queue_depth() const;                               // of all

 private:
  Tenant::Place place_of(const TenantSpec& spec);
  Tenant* find(const std::string& name) const;
  Result<Tenant*> make(const TenantSpec& spec);
  void apply(const TenantSpec& spec, Tenant& tenant) const;
  void note(const Tenant& tenant);

  const EngineOf engine_of_;
  const HasShare has_share_;
  OnWeight on_weight_;
  DeviceQueue& queue_;
  std::atomic<bool> has_own_queues_{false};
  const Store::Options store_options_;
  const SessionPool::Options session_options_;
  const std::unique_ptr<Tenant> local_;
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Tenant>> others_;
};

}  // namespace outboard::serve
