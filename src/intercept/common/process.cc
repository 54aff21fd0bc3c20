// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/process.h"

#include <pthread.h>
#include <sys/random.h>
#include <unistd.h>
#include <unwind.h>

#include <cstdlib>
#include <utility>

#include "base/log.h"
#include "intercept/common/cpu_share.h"
#include "intercept/common/report.h"

namespace outboard::intercept {
namespace {

std::atomic<Process*> current_process{nullptr};
std::atomic<std::uint64_t> current_generation{1};
std::atomic<bool> handlers_installed{false};

// Whether exit() has called what calls this; its own frame is a few frames up.
bool is_in_exit() {
  struct Search {
    int frames = 0;
    bool found = false;
  } search;
  ::_Unwind_Backtrace(
      [](_Unwind_Context* frame, void* data) {
        auto& s = *static_cast<Search*>(data);
        // NOLINTNEXTLINE(performance-no-int-to-ptr): the unwinder has addresses as numbers
        auto* call = reinterpret_cast<void*>(::_Unwind_GetIP(frame) - 1);
        s.found = ::_Unwind_FindEnclosingFunction(call) == reinterpret_cast<void*>(&::exit);
        return s.found || ++s.frames == 16 ? _URC_NORMAL_STOP : _URC_NO_REASON;
      },
      &search);
  return search.found;
}

// The library makes some of its globals when they are first used, after our exit handler was
// registered, and exit() destroys them before it: a thread of ours that opens a model at that
// moment would use what is gone. But before all of that exit() destroys the thread_local objects of
// its thread, which is the program's first one as a rule. pthread_exit() does so, too, and the
// process goes on.
struct EndOfMain {
  ~EndOfMain() {
    if (handlers_installed.load() && ::gettid() == ::getpid() && is_in_exit()) Process::leave();
  }
  void watch() {}
};
thread_local EndOfMain end_of_main;
__attribute__((constructor)) void watch_main_thread() { end_of_main.watch(); }

Config config_from_environment() {
  auto config = read_config([](const char* name) -> const char* { return std::getenv(name); });
  if (config) return *std::move(config);
  log_error("{}; everything runs here", config.error().message);
  return {};
}

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  [[maybe_unused]] const ssize_t size = ::getrandom(&seed, sizeof seed, 0);
  return seed;
}

wire::ClientOptions interposer_options(const Config& config) {
  wire::ClientOptions options;
  options.software = "outboard interposer";
  options.shared_memory = config.shared_memory;
  // A Run may need a connection, and must not wait for it longer than for a reply.
  options.connect_timeout = limits::kStallTimeout;
  return options;
}

wire::ClientOptions with_coding(wire::ClientOptions options, wire::CodingMode coding) {
  options.coding = coding;
  return options;
}

}  // namespace

Process& Process::current() {
  Process* process = current_process.load(std::memory_order_acquire);
  if (process != nullptr) return *process;
  if (!handlers_installed.exchange(true)) {
    pthread_atfork(nullptr, nullptr, &in_forked_child);
    // For exit() on another thread than the first. Registered late, so that it runs before the
    // destructors of the program's and the library's globals.
    std::atexit(&leave);
  }
  end_of_main.watch();  // a forked child's first thread is another one
  // No lock here: one that another thread held during fork() would be held for ever in the child.
  Config config = config_from_environment();
  wire::ClientOptions options = interposer_options(config);
  auto fresh =
      std::make_unique<Process>(current_generation.load(), std::move(config), std::move(options));
  if (current_process.compare_exchange_strong(process, fresh.get(), std::memory_order_acq_rel)) {
    return *fresh.release();
  }
  return *process;
}

void Process::in_forked_child() {
  current_generation.fetch_add(1);
  current_process.store(nullptr, std::memory_order_release);
}

Process* Process::exchange_current(Process* process) {
  return current_process.exchange(process, std::memory_order_acq_rel);
}

Process::Process(std::uint64_t generation, Config config, wire::ClientOptions client_options)
    : generation_(generation),
      config_(std::move(config)),
      client_options_(with_coding(std::move(client_options), config_.coding)),
      seed_(config_.seed != 0 ? config_.seed : random_seed()) {
  for (const wire::Access& server : config_.servers) {
    links_.push_back(std::make_unique<ServerLink>(*this, server));
  }
}

std::string Process::why_all_local() const {
  if (config_.mode == Mode::kLocal) return "asked for by --mode local";
  if (links_.empty()) return "no server was given";
  return {};
}

std::vector<std::string> Process::server_providers() {
  if (!why_all_local().empty()) return {};
  {
    const std::lock_guard lock(mutex_);
    if (!server_providers_.empty()) return server_providers_;
  }
  for (const auto& link : links_) {
    if (!link->usable()) continue;
    auto hello = link->hello();
    if (!hello) continue;
    const std::lock_guard lock(mutex_);
    server_providers_ = std::move(hello->providers);
    return server_providers_;
  }
  return {};
}

std::shared_ptr<Account> Process::new_account(std::string model) {
  auto account = std::make_shared<Account>(next_account_.fetch_add(1), std::move(model));
  const std::lock_guard lock(mutex_);
  accounts_.push_back(account);
  return account;
}

void Process::server_is_lost(const ServerLink& link, const Error& error) {
  const std::string text =
      error.message.find(link.address()) != std::string::npos
          ? error.message
          : fmt::format("server ({}) is lost: {}", link.address(), error.message);
  if (warned_.exchange(true)) {
    log_info("{}", text);
    return;
  }
  log_warn("{}; inference runs here until it answers", text);
}

double Process::cpu_share(double now_us) {
  constexpr double kLookAgainUs = 2e6;
  if (now_us > cpu_share_until_us_.load(std::memory_order_relaxed)) {
    cpu_share_until_us_.store(now_us + kLookAgainUs, std::memory_order_relaxed);
    cpu_share_.store(intercept::cpu_share(), std::memory_order_relaxed);
  }
  return cpu_share_.load(std::memory_order_relaxed);
}

bool Process::draws_verification() {
  if (config_.verify == 0) return false;
  // splitmix64's finalizer: random() counts in steps.
  std::uint64_t z = random();
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53 < config_.verify;
}

void Process::in_vendor_code(const std::function<void()>& call) {
  {
    std::unique_lock lock(vendor_mutex_);
    vendor_changed_.wait(lock, [&] { return !leaving_.load(); });
    ++in_vendor_code_;
    // Once more, now that the library has made most of what it makes when it is used.
    if (!std::exchange(was_in_vendor_code_, true) && handlers_installed.load()) std::atexit(&leave);
  }
  call();
  const std::lock_guard lock(vendor_mutex_);
  --in_vendor_code_;
  vendor_changed_.notify_all();
}

std::vector<AccountFigures> Process::session_figures() const {
  std::vector<AccountFigures> sessions;
  const std::lock_guard lock(mutex_);
  for (const auto& account : accounts_) {
    AccountFigures figures = account->figures();
    if (!figures.is_discarded) sessions.push_back(std::move(figures));
  }
  return sessions;
}

void Process::write_json(const std::vector<AccountFigures>& sessions, bool ended) {
  std::vector<ServerFigures> servers;
  servers.reserve(links_.size());
  for (const auto& link : links_) {
    servers.push_back({link->address(), std::string(name_of(link->state())),
                       link->client().frames_sent(), link->client().frames_received(),
                       std::string(link->client().transport())});
  }
  const std::lock_guard lock(json_mutex_);
  if (!ended && reported_.load()) return;
  write_summary_json(config_, summary_json(config_, sessions, servers, ended), json_entry_);
}

void Process::report() {
  if (reported_.exchange(true)) return;
  const std::vector<AccountFigures> sessions = session_figures();
  if (sessions.empty()) return;
  if (!config_.json_path.empty()) write_json(sessions, /*ended=*/true);
  write_table_and_trace(config_, sessions, trace_);
}

void Process::report_so_far() {
  if (config_.json_path.empty() || reported_.load() || next_account_.load() > kMaxSessionsSoFar) {
    return;
  }
  const std::vector<AccountFigures> sessions = session_figures();
  if (!sessions.empty()) write_json(sessions, /*ended=*/false);
}

void Process::leave() {
  Process* process = current_process.load(std::memory_order_acquire);
  if (process == nullptr || process->is_leaving()) return;
  {
    const std::lock_guard lock(process->vendor_mutex_);
    process->leaving_.store(true);
  }
  for (const auto& link : process->links_) link->stop();
  process->cancels_.cancel(process);  // second tries
  {
    // A background thread that wants the library from now on waits until the process has ended, and
    // those that are inside come out first.
    std::unique_lock lock(process->vendor_mutex_);
    process->vendor_changed_.wait(lock, [&] { return process->in_vendor_code_ == 0; });
  }
  process->report();
}

}  // namespace outboard::intercept
