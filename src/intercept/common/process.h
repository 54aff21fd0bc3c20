// SPDX-License-Identifier: Apache-2.0
// The interposer's state in this process: configuration, servers, accounts, reports. The one
// singleton of the code base, because nobody's main() is ours.
//
// Thread-safe. Made at its first use, never destroyed. fork(): a handler lets the child forget the
// parent's state without touching its locks, threads or sockets, and the child makes its own at its
// first use; so fork() is safe at any moment, in any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "intercept/common/account.h"
#include "intercept/common/async_pool.h"
#include "intercept/common/cancel_registry.h"
#include "intercept/common/config.h"
#include "intercept/common/hedge_watch.h"
#include "intercept/common/server_link.h"
#include "intercept/common/trace.h"

namespace outboard::intercept {

inline constexpr std::uint64_t kMaxSessionsSoFar = 100;

class Process {
 public:
  static Process& current();
  // For tests that simulate many processes in one: reads no environment, installs no handler.
  Process(std::uint64_t generation, Config config, wire::ClientOptions client_options);
  // Whose turn it is; nullptr: the next current() makes one. Returns the one before.
  static Process* exchange_current(Process* process);

  const Config& config() const { return config_; }
  // Of this process among its forked relatives; what carries another number is not ours to touch.
  std::uint64_t generation() const { return generation_; }
  const std::vector<std::unique_ptr<ServerLink>>& links() const { return links_; }
  // Why nothing at all can go out: "" or a sentence.
  std::string why_all_local() const;

  // The execution providers that the first server that answers offers; asked at the first call, and
  // again until one has answered. Empty when none does, and in mode local.
  std::vector<std::string> server_providers();

  std::shared_ptr<Account> new_account(std::string model);
  Trace* trace() { return config_.trace_path.empty() ? nullptr : &trace_; }
  CancelRegistry& cancels() { return cancels_; }
  AsyncPool& async_pool() { return async_pool_; }
  HedgeWatch& hedges() { return hedges_; }
  AsyncPool& hedge_pool() { return hedge_pool_; }  // of second tries; hedges() works there, too
  const wire::ClientOptions& client_options() const { return client_options_; }

  void server_is_lost(const ServerLink& link, const Error& error);
  void server_is_up() { warned_.store(false); }

  // For background threads: calls the vendor's library, unless the process is on its way out (the
  // library may be gone already); then it never returns to it. Calls may be concurrent.
  void in_vendor_code(const std::function<void()>& call);

  // The process is on its way out: what goes on in the background is to end.
  bool is_leaving() const { return leaving_.load(); }

  // Of a core that this process may use, looked up again every other second.
  double cpu_share(double now_us);
  // Whether the next Run at a server is one of those to verify.
  bool draws_verification();
  // Another number each time; follows from Config::seed.
  std::uint64_t random() { return random_.fetch_add(0x9e3779b97f4a7c15u) ^ seed_; }

  // The process ends: what goes on in the background ends with it, and reports are written. For the
  // ways in which a process can end (process.cc); does nothing the second time.
  static void leave();

  // Writes the summary, JSON and trace that were asked for; once.
  void report();
  // Writes the JSON as it is by now, where it is asked for: some programs end without a word (Go's,
  // and _exit()). Called when the program gives something back; does nothing once there are more
  // than kMaxSessionsSoFar sessions, because each call writes all of them.
  void report_so_far();

 private:
  static void in_forked_child();
  std::vector<AccountFigures> session_figures() const;
  void write_json(const std::vector<AccountFigures>& sessions, bool ended);

  const std::uint64_t generation_;
  const Config config_;
  const wire::ClientOptions client_options_;
  const std::uint64_t seed_;
  std::atomic<std::uint64_t> random_{0};
  std::vector<std::unique_ptr<ServerLink>> links_;
  std::atomic<double> cpu_share_{1}, cpu_share_until_us_{0};
  std::atomic<bool> warned_{false};
  std::atomic<bool> reported_{false};
  std::mutex json_mutex_;
  std::string json_entry_;   // as it stands in the file
  std::mutex vendor_mutex_;  // of the next four; leaving_ is read without it, too
  std::condition_variable vendor_changed_;
  std::size_t in_vendor_code_ = 0;
  bool was_in_vendor_code_ = false;
  std::atomic<bool> leaving_{false};
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Account>> accounts_;
  std::vector<std::string> server_providers_;
  std::atomic<std::uint64_t> next_account_{1};
  Trace trace_;
  CancelRegistry cancels_;
  AsyncPool async_pool_, hedge_pool_;
  HedgeWatch hedges_{hedge_pool_};
};

}  // namespace outboard::intercept
