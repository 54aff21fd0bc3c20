// SPDX-License-Identifier: Apache-2.0
#include "serve/tenant.h"

#include <algorithm>
#include <limits>

#include "base/log.h"

namespace outboard::serve {
namespace {

constexpr std::size_t kNameBytes = 64;
const TenantSpec kLocalSpec{std::string(kLocalTenant), 1, {}};

std::uint64_t or_unlimited(std::uint64_t limit) {
  return limit == 0 ? std::numeric_limits<std::uint64_t>::max() : limit;
}

SessionPool::Options with_limits(SessionPool::Options options, const TenantLimits& limits) {
  if (limits.sessions > 0) options.quota_sessions = limits.sessions;
  if (limits.device_memory_bytes > 0) options.quota_model_bytes = limits.device_memory_bytes;
  return options;
}

}  // namespace

Result<void> check_tenant_name(std::string_view name) {
  const bool is_good =
      !name.empty() && name.size() <= kNameBytes && name.front() != '.' && name != kLocalTenant &&
      name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
          std::string_view::npos;
  if (is_good) return {};
  return error(ErrorKind::kInvalid,
               "the tenant's name ({}) must be of 1 to {} letters, digits, '.', '_' and '-', not "
               "begin with '.', and not be (local)",
               name, kNameBytes);
}

bool TokenBucket::take(double rate_per_s, Nanoseconds now) {
  if (rate_per_s <= 0) return true;
  const double most = std::max(1.0, rate_per_s);
  const double fresh = std::chrono::duration<double>(now - last_).count() * rate_per_s;
  tokens_ = tokens_ < 0 ? most : std::min(most, tokens_ + fresh);
  last_ = now;
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

Tenant::Tenant(TenantSpec spec, std::shared_ptr<engine::Engine> engine, Place place,
               std::unique_ptr<Store> store, SessionPool::Options sessions, ModelSource* models)
    : name_(spec.name),
      spec_(std::move(spec)),
      in_flight_limit_(or_unlimited(spec_.limits.in_flight_bytes)),
      concurrent_limit_(or_unlimited(spec_.limits.concurrent_runs)),
      has_rate_(spec_.limits.runs_per_s > 0),
      engine_(std::move(engine)),
      store_(std::move(store)),
      sessions_(*engine_, models != nullptr ? *models : *store_,
                with_limits(sessions, spec_.limits)),
      own_queue_(place.queue == nullptr ? std::make_unique<DeviceQueue>(place.slots) : nullptr),
      queue_(own_queue_ ? *own_queue_ : *place.queue),
      flow_(spec_.weight) {}

TenantSpec Tenant::spec() const {
  const std::lock_guard lock(mutex_);
  return spec_;
}

bool Tenant::update(const TenantSpec& spec) {
  const std::lock_guard lock(mutex_);
  if (spec_ == spec) return false;
  const bool has_new_weight = spec_.weight != spec.weight;
  spec_ = spec;
  in_flight_limit_ = or_unlimited(spec.limits.in_flight_bytes);
  concurrent_limit_ = or_unlimited(spec.limits.concurrent_runs);
  has_rate_ = spec.limits.runs_per_s > 0;
  store_->set_limit(spec.limits.store_bytes > 0 ? spec.limits.store_bytes : default_store_bytes_);
  sessions_.set_quota(spec.limits.sessions, spec.limits.device_memory_bytes);
  queue_.set_weight(flow_, spec.weight);
  return has_new_weight;
}

Result<void> Tenant::run_begins(Nanoseconds now) {
  if (has_rate_) {
    const std::lock_guard lock(mutex_);
    if (!bucket_.take(spec_.limits.runs_per_s, now))
      return error(ErrorKind::kOverloaded,
                   "the tenant ({}) has sent as many Runs a second as it may ({})", name_,
                   spec_.limits.runs_per_s);
  }
  const std::uint64_t limit = concurrent_limit_;
  if (concurrent_runs_.fetch_add(1, std::memory_order_relaxed) < limit) return {};
  run_ended();
  return error(ErrorKind::kOverloaded, "the tenant ({}) has as many Runs under way as it may ({})",
               name_, limit);
}

Result<void> Tenant::connection_begins(std::uint64_t server_limit) {
  const std::uint64_t own = spec().limits.connections;
  const std::uint64_t limit = own == 0 ? server_limit : std::min(own, server_limit);
  statistics_.connections_total.fetch_add(1);
  if (statistics_.connections.fetch_add(1) < limit) return {};
  connection_ended();
  return error(ErrorKind::kOverloaded, "the tenant ({}) has as many connections as it may ({})",
               name_, limit);
}

Tenants::Tenants(EngineOf engine_of, HasShare has_share, DeviceQueue& queue, Store::Options store,
                 std::unique_ptr<Store> local_store, SessionPool::Options sessions,
                 ModelSource* local_models)
    : engine_of_(std::move(engine_of)),
      has_share_(std::move(has_share)),
      queue_(queue),
      store_options_(std::move(store)),
      session_options_(sessions),
      local_(std::make_unique<Tenant>(kLocalSpec, engine_of_(kLocalSpec), place_of(kLocalSpec),
                                      std::move(local_store), sessions, local_models)) {
  note(*local_);
}

void Tenants::note(const Tenant& tenant) {
  if (tenant.has_own_queue()) has_own_queues_ = true;
}

Tenant::Place Tenants::place_of(const TenantSpec& spec) {
  return {.queue = has_share_ && has_share_(spec) ? nullptr : &queue_, .slots = queue_.slots()};
}

Result<Tenant*> Tenants::get(const TenantSpec& spec) {
  if (Tenant* const there = find(spec.name)) {
    apply(spec, *there);
    return there;
  }
  OB_TRY(Tenant* const made, make(spec));
  if (on_weight_) on_weight_(spec.name, spec.weight);
  return made;
}

Result<Tenant*> Tenants::make(const TenantSpec& spec) {
  const std::lock_guard lock(mutex_);
  if (const auto found = others_.find(spec.name); found != others_.end())
    return found->second.get();
  OB_CHECK_OK(check_tenant_name(spec.name));
  OB_TRY(auto store,
         Store::open({.folder = store_options_.folder + "/tenants/" + spec.name,
                      .limit_bytes = spec.limits.store_bytes > 0 ? spec.limits.store_bytes
                                                                 : store_options_.limit_bytes,
                      .when_full = ErrorKind::kRefused}));
  auto made = std::make_unique<Tenant>(spec, engine_of_(spec), place_of(spec), std::move(store),
                                       session_options_);
  note(*made);
  made->default_store_bytes_ = store_options_.limit_bytes;
  log_info("tenant opened tenant={} weight={}", spec.name, spec.weight);
  return others_.emplace(spec.name, std::move(made)).first->second.get();
}

void Tenants::update(const TenantSpec& spec) {
  if (Tenant* const tenant = find(spec.name)) apply(spec, *tenant);
}

Tenant* Tenants::find(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = others_.find(name);
  return found == others_.end() ? nullptr : found->second.get();
}

void Tenants::apply(const TenantSpec& spec, Tenant& tenant) const {
  if (tenant.update(spec) && on_weight_) on_weight_(spec.name, spec.weight);
}

std::uint32_t Tenants::queue_depth() const {
  std::uint32_t depth = queue_.depth();
  if (!has_own_queues_) return depth;
  for (const Tenant* tenant : all())
    if (tenant->has_own_queue()) depth += tenant->queue().depth();
  return depth;
}

std::vector<const Tenant*> Tenants::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<const Tenant*> tenants{local_.get()};
  for (const auto& [name, tenant] : others_) tenants.push_back(tenant.get());
  return tenants;
}

}  // namespace outboard::serve
