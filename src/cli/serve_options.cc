// SPDX-License-Identifier: Apache-2.0
#include "cli/serve_options.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

namespace outboard::cli {

Result<std::string> default_store_folder() {
  const auto from = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (const std::string cache = from("XDG_CACHE_HOME"); !cache.empty())
    return cache + "/outboard/store";
  if (const std::string home = from("HOME"); !home.empty()) return home + "/.cache/outboard/store";
  return error(ErrorKind::kInvalid,
               "no folder for the store: neither XDG_CACHE_HOME nor HOME is set; name one with "
               "--store");
}

std::size_t default_slots(const std::string& device) {
  if (device != "cpu") return 1;
  return std::max(1u, std::thread::hardware_concurrency());
}

std::uint64_t default_worker_memory() {
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGE_SIZE)) / 4 * 3;
}

LogLevel log_level_of(const std::string& name) {
  if (name == "error") return LogLevel::kError;
  if (name == "warn") return LogLevel::kWarn;
  return name == "debug" ? LogLevel::kDebug : LogLevel::kInfo;
}

IsolationChoice choose_isolation(const std::string& option, const ListenAddresses& addresses,
                                 bool insecure) {
  if (option != "auto") return {option == "on", option == "on"};
  const bool beyond = !addresses.beyond_this_machine.empty();
  return {.tenants = beyond, .local = beyond && insecure};
}

Result<ListenAddresses> parse_listen(const std::vector<std::string>& texts) {
  ListenAddresses addresses;
  for (const std::string& text : texts) {
    OB_TRY(wire::Endpoint endpoint, wire::parse_endpoint(text));
    OB_TRY(const bool local, wire::is_local(endpoint));
    (local ? addresses.local : addresses.beyond_this_machine).push_back(std::move(endpoint));
  }
  return addresses;
}

}  // namespace outboard::cli
