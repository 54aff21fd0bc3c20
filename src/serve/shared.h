// SPDX-License-Identifier: Apache-2.0
// What all connections of a server share. Every member is thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/clock.h"
#include "engine/engine.h"
#include "serve/buffers.h"
#include "serve/device_queue.h"
#include "serve/session_pool.h"
#include "serve/statistics.h"
#include "serve/store.h"
#include "serve/tenant.h"
#include "serve/watcher.h"
#include "split/exec/node.h"
#include "wire/coding/speeds.h"
#include "wire/shared_link.h"

namespace outboard::serve {

// Split inferences of other servers, in which this one takes part. Their bands are computed beside
// the device's queue, so not for every tenant: for the operator's own ("local") and this one.
struct SplitSettings {
  std::string tenant;
  // A connection to another participant, its handshake done; empty: this server knows no peers.
  std::function<Result<std::shared_ptr<wire::Connection>>(const std::string& address)> connect;
  std::uint64_t memory_limit_bytes = 0;             // of a part; 0: none
  int threads = 0;                                  // of a session of a part; 0: the engine's pool
  std::shared_ptr<split::exec::BandStore> bands{};  // where bands are kept; null: nowhere
};

split::exec::NodeOptions node_options(const SplitSettings& settings);
class Workers;

struct Settings {
  std::string software = "outboard";
  std::size_t slots = 1;                            // Runs that compute at the same time
  const Clock* device_clock = &Clock::monotonic();  // by which they are shared out; borrowed
  std::size_t max_connections = 4096;
  std::uint64_t max_in_flight_bytes = std::uint64_t{4} << 30;  // inputs of all Runs under way
  std::size_t kept_buffer_bytes = std::size_t{256} << 20;
  SplitSettings split{};
  bool shared_memory = true;                                 // for clients of unix sockets
  std::uint64_t max_shared_bytes = std::uint64_t{16} << 30;  // for outputs, all connections
  bool tensor_coding = true;                                 // for clients that ask for it
  std::uint64_t known_bytes_per_connection = 64u << 20;      // inputs kept; 0: none
  std::uint64_t max_known_bytes = 256u << 20;                // of all connections
};

struct Shared {
  // `isolate`: the engine of a tenant that shall not share `engine_`; nullptr, or empty: it shares.
  // `has_share`: whether such a tenant need not wait for others' Runs; empty: it waits.
  Shared(Settings settings_, std::shared_ptr<engine::Engine> engine_, const EngineOf& isolate,
         HasShare has_share, Store::Options store_options, std::unique_ptr<Store> store,
         SessionPool::Options session_options, ModelSource* local_models, std::string id)
      : settings(std::move(settings_)),
        server_id(std::move(id)),
        engine(std::move(engine_)),
        queue(settings.slots, *settings.device_clock),
        engine_of([shared = engine, isolate](const TenantSpec& tenant) {
          auto own = isolate ? isolate(tenant) : nullptr;
          return own ? own : shared;
        }),
        tenants(engine_of, std::move(has_share), queue, std::move(store_options), std::move(store),
                session_options, local_models),
        buffers(settings.kept_buffer_bytes),
        shared_budget(settings.max_shared_bytes),
        split_engine(engine_of({settings.split.tenant, 1, {}})),
        split(*split_engine, node_options(settings.split)) {}

  const Settings settings;
  const std::string server_id;
  const Nanoseconds started = Clock::monotonic().now();
  const std::shared_ptr<engine::Engine> engine;  // says what the server is
  std::shared_ptr<Workers> workers;              // empty: none; set at the start
  DeviceQueue queue;                             // of all tenants that share the engine
  const EngineOf engine_of;
  Tenants tenants;
  BufferPool buffers;
  wire::SharedBudget shared_budget;
  wire::LookingSlots looking_slots;
  Statistics statistics;  // of all tenants together
  wire::SpeedMeter speed_meter;
  std::atomic<bool> draining{false};
  std::mutex drain_mutex;
  std::condition_variable drained;  // notified while draining, when the last Run has ended
  const std::shared_ptr<engine::Engine> split_engine;
  split::exec::Node split;
  Watcher watcher;
};

// The JSON document of `outboard status`; docs/operations.md has its fields. A tenant's is about
// itself alone; the one of "local", who runs the server, about everything.
std::string status_json(const Shared& shared, const Tenant& tenant);

}  // namespace outboard::serve
