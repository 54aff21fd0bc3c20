// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/workers.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "serve/worker/worker_engine.h"

namespace outboard::serve {
namespace {

constexpr Nanoseconds kSharesLook = std::chrono::milliseconds(100);

class EngineFacts final : public engine::Engine {
 public:
  explicit EngineFacts(wire::HelloReply facts) : facts_(std::move(facts)) {}
  std::string name() const override { return facts_.engine.substr(0, facts_.engine.find(' ')); }
  std::string version() const override {
    const std::size_t space = facts_.engine.find(' ');
    return space == std::string::npos ? "" : facts_.engine.substr(space + 1);
  }
  std::string device() const override { return facts_.device; }
  std::vector<std::string> available_providers() const override { return facts_.providers; }
  Result<std::shared_ptr<engine::Session>> open(const std::string& /*path*/,
                                                const engine::OpenOptions& /*options*/) override {
    return error(ErrorKind::kInternal, "models are opened in workers only");
  }
  Result<std::shared_ptr<engine::Session>> open_bytes(
      std::span<const std::byte> /*model*/, const engine::OpenOptions& /*options*/) override {
    return error(ErrorKind::kInternal, "models are opened in workers only");
  }
  std::unique_ptr<engine::RunControl> make_run_control() override {
    return make_worker_run_control();
  }

 private:
  const wire::HelloReply facts_;
};

// Whether a priority that was lowered may be raised again: tried on a thread that then ends.
bool priority_may_rise() {
  bool may = false;
  std::thread([&] {
    constexpr sched_param kNone{};
    may = ::setpriority(PRIO_PROCESS, 0, kLowestNice) == 0 &&
          ::sched_setscheduler(0, SCHED_IDLE, &kNone) == 0 &&
          ::sched_setscheduler(0, SCHED_OTHER, &kNone) == 0 &&
          ::setpriority(PRIO_PROCESS, 0, 0) == 0;
  }).join();
  return may;
}

}  // namespace

void RestartDelay::ended(Nanoseconds now, Nanoseconds lived) {
  times_ = lived < kSoon ? times_ + 1 : 1;
  const int doublings = std::min(times_ - kAtOnce - 1, 16);
  not_before_ = times_ <= kAtOnce ? now : now + std::min(kFirst * (1 << doublings), kLongest);
}

Nanoseconds RestartDelay::left(Nanoseconds now) const {
  return std::max(not_before_ - now, Nanoseconds::zero());
}

Result<std::shared_ptr<Workers>> Workers::start(Options options) {
  std::shared_ptr<Workers> workers(new Workers(std::move(options)));
  OB_TRY(auto first, workers->make({.name = "-", .weight = 1, .limits = {}}));
  auto facts = first->greet();
  if (!facts) {
    const auto end = first->how_it_ended(std::chrono::seconds(5));
    return error(ErrorKind::kInternal, "no worker can be started: {}",
                 end ? end->sentence : facts.error().message);
  }
  workers->facts_ = std::move(*facts);
  if (workers->options_.share_cpu) {
    workers->share_cpu_ = priority_may_rise();
    if (workers->share_cpu_) {
      workers->share_keeper_ = std::thread([keeper = workers.get()] { keeper->keep_shares(); });
    } else {
      log_info(
          "tenants wait for each other's Runs reason=\"the server may not raise its workers' "
          "priority again, for which it needs RLIMIT_NICE of 20 or CAP_SYS_NICE\"");
    }
  }
  first->leave();
  workers->spare_ = std::move(first);
  return workers;
}

Workers::~Workers() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  if (share_keeper_.joinable()) share_keeper_.join();
}

void Workers::keep_shares() {
  CpuShares shares(options_.cores > 0 ? options_.cores
                                      : std::max(1u, std::thread::hardware_concurrency()));
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (stopped_.wait_for(lock, kSharesLook, [&] { return stopping_; })) return;
    }
    std::map<std::int64_t, std::shared_ptr<Worker>> by_pid;
    std::vector<CpuShares::Worker> used;
    for (auto& worker : alive()) {
      if (worker->sessions() == 0) continue;
      used.push_back({worker->pid(), worker->weight(), worker->cpu_time()});
      by_pid.emplace(worker->pid(), std::move(worker));
    }
    // Each time, for threads that were being made the last time.
    for (const auto& [pid, nice, yields] : shares.look(used, Clock::monotonic().now())) {
      by_pid.at(pid)->set_nice(nice);
      by_pid.at(pid)->set_yields(yields);
    }
  }
}

std::unique_ptr<engine::Engine> Workers::facts() const {
  return std::make_unique<EngineFacts>(facts_);
}

std::unique_ptr<engine::Engine> Workers::engine_for(const TenantSpec& tenant) {
  return make_worker_engine(shared_from_this(), tenant);
}

// Called with the mutex held: below the limit, if need be by ending what has been quiet longest.
Result<void> Workers::make_room() {
  auto workers = alive_locked();
  all_.assign(workers.begin(), workers.end());
  if (workers.size() < options_.most) return {};
  std::ranges::sort(workers, {}, [](const auto& worker) { return worker->last_used(); });
  for (const auto& worker : workers) {
    if (!worker->retire_if_quiet()) continue;
    worker->how_it_ended(std::chrono::seconds(5));
    return {};
  }
  return error(ErrorKind::kOverloaded, "the server has as many workers as it may ({}), all at work",
               options_.most);
}

Result<std::shared_ptr<Worker>> Workers::make(const TenantSpec& tenant) {
  const std::lock_guard lock(mutex_);
  const auto known = weights_.find(tenant.name);
  const double weight = known == weights_.end() ? tenant.weight : known->second;
  const int nice = nice_of(weight);
  if (spare_ && nice == nice_of(1)) {
    auto taken = std::exchange(spare_, nullptr);
    if (taken->enter()) {
      taken->belongs_to(tenant.name, weight);
      return taken;
    }
  }
  OB_CHECK_OK(make_room());
  std::vector<std::string> command = options_.command;
  command.insert(command.end(), {"--nice", std::to_string(nice)});
  OB_TRY(auto worker, Worker::start({std::move(command), tenant.name, options_.idle_time, weight}));
  if (!worker->enter()) {
    const auto end = worker->how_it_ended(std::chrono::seconds(5));
    return error(ErrorKind::kOverloaded, "the worker ended at once ({})", end ? end->sentence : "");
  }
  all_.push_back(worker);
  started_.fetch_add(1);
  log_info("worker started tenant={} pid={} nice={}", tenant.name, worker->pid(), nice);
  return worker;
}

void Workers::set_weight(const std::string& tenant, double weight) {
  const std::lock_guard lock(mutex_);
  weights_[tenant] = weight;
  for (const auto& worker : alive_locked()) {
    if (worker->tenant() != tenant) continue;
    worker->belongs_to(tenant, weight);
    // Where the kernel shares, the next look lowers it again if it uses more than its new share.
    if (!worker->set_nice(nice_of(weight)) && !worker->has_ended())
      log_warn(
          "worker keeps its priority tenant={} pid={} reason=\"the server may not raise its "
          "workers' priority\"",
          tenant, worker->pid());
  }
}

std::vector<std::shared_ptr<Worker>> Workers::alive() const {
  const std::lock_guard lock(mutex_);
  return alive_locked();
}

std::vector<std::shared_ptr<Worker>> Workers::alive_locked() const {
  std::vector<std::shared_ptr<Worker>> alive;
  for (const auto& weak : all_)
    if (auto worker = weak.lock(); worker && !worker->has_ended())
      alive.push_back(std::move(worker));
  return alive;
}

std::vector<Workers::Row> Workers::rows() const {
  const auto alive = this->alive();
  std::vector<Row> rows;
  rows.reserve(alive.size());
  for (const auto& worker : alive)
    rows.push_back({worker->tenant(), worker->pid(), worker->resident_bytes(), worker->sessions()});
  return rows;
}

}  // namespace outboard::serve
