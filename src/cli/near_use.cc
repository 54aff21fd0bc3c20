// SPDX-License-Identifier: Apache-2.0
#include "cli/near_use.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/near_browse.h"
#include "cli/servers_file.h"

namespace outboard::cli {

Result<std::vector<Held>> held_servers() {
  OB_TRY(const auto servers, known_servers());
  std::vector<Held> held;
  for (const KnownServer& server : servers) {
    auto access = wire::read_access_file(server.access_path);
    if (access) {
      held.push_back({server.name, server.access_path, std::move(*access)});
    } else {
      std::fprintf(stderr, "outboard: %s\n", access.error().message.c_str());
    }
  }
  return held;
}

Result<std::string> near_server_list() {
  OB_TRY(const auto held, held_servers());
  if (held.empty())
    return error(ErrorKind::kNotFound, "no server is known (`outboard login` makes one known)");
  // Nobody waits for strangers.
  const auto is_there = [](const Held& known, std::span<const NearServer> heard) {
    return std::ranges::any_of(heard, [&](const NearServer& server) {
      return match_near(server, std::span(&known, 1)).held != nullptr;
    });
  };
  OB_TRY(const auto near, near_servers([&](std::span<const NearServer> heard) {
           return std::ranges::all_of(held,
                                      [&](const Held& known) { return is_there(known, heard); });
         }));
  std::string list;
  for (const NearServer& server : near) {
    const NearMatch match = match_near(server, held);
    if (!match.refusal.empty()) std::fprintf(stderr, "outboard: %s\n", match.refusal.c_str());
    if (match.held == nullptr) continue;
    OB_TRY(const std::string item, access_item(match.held->access_path));
    list += (list.empty() ? "" : ",") + server.endpoint.to_string() + "=" + item;
    if (::isatty(STDERR_FILENO) == 1)
      std::fprintf(stderr, "outboard: server nearby: %s (%s)\n", match.held->name.c_str(),
                   server.endpoint.to_string().c_str());
  }
  if (list.empty())
    return error(ErrorKind::kNotFound, "of {} servers nearby a token is held for none",
                 near.size());
  return list;
}

}  // namespace outboard::cli
