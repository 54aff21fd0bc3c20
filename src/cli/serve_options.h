// SPDX-License-Identifier: Apache-2.0
// What `outboard serve` is told, and what follows from it. Pure but for defaults, which read the
// environment and the machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "wire/transport/endpoint.h"

namespace outboard::cli {

struct ServeArguments {
  std::vector<std::string> listen = {"127.0.0.1:7070"};
  std::string store;  // empty: default_store_folder()
  std::uint64_t store_limit_bytes = 20'000'000'000;
  int threads = 0;
  bool spin = false;
  bool no_shared_memory = false;
  std::size_t slots = 0;  // 0: default_slots()
  std::string ort_library;
  std::string device = "cpu";
  std::string ready_file;
  std::string log_level = "info";
  std::string log_format = "text";
  std::string http;  // empty: no HTTP door
  double drain_timeout_s = 30;
  std::size_t max_connections = 4096;
  bool insecure = false;
  std::string state;               // empty: serve::default_state_folder()
  std::string certificate, key;    // of the operator's own
  std::string isolation = "auto";  // on, off, auto: for what comes from other machines
  std::size_t max_workers = 64;
  std::uint64_t worker_memory_bytes = 0;  // 0: default_worker_memory()
  double worker_idle_s = 60;
  double open_limit_s = 300, run_limit_s = 300;
  std::optional<std::string> announce;  // a name, "" for the host's
  std::vector<std::string> peers;       // servers that compute one inference together with this one
  std::string peers_tenant = "peers";
  double peers_gain = 1.05;
  std::uint64_t peers_memory_bytes = 0;  // 0: no limit
};

// $XDG_CACHE_HOME/outboard/store, else ~/.cache/outboard/store; kInvalid when neither is set.
Result<std::string> default_store_folder();
// Runs that compute at the same time. docs/operations.md has the measurement behind it.
std::size_t default_slots(const std::string& device);

// Three quarters of this machine's memory.
std::uint64_t default_worker_memory();
LogLevel log_level_of(const std::string& name);  // error, warn, debug; info for all others

struct ListenAddresses {
  std::vector<wire::Endpoint> local;
  std::vector<wire::Endpoint> beyond_this_machine;  // those that others can reach
};
Result<ListenAddresses> parse_listen(const std::vector<std::string>& texts);

// Whose models are computed in worker processes: of tenants that come with a token, and of "local",
// whom everybody is who comes without.
struct IsolationChoice {
  bool tenants = false, local = false;
};
// auto: of those who come from other machines. "local" is from another machine where --insecure
// lets it be. Pure.
IsolationChoice choose_isolation(const std::string& option, const ListenAddresses& addresses,
                                 bool insecure);

}  // namespace outboard::cli
