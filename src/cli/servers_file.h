// SPDX-License-Identifier: Apache-2.0
// The servers that this user knows: names in ~/.config/outboard/servers.toml, and for each an
// access file (wire/access.h, mode 0600) in ~/.config/outboard/access. $XDG_CONFIG_HOME takes the
// place of ~/.config.
// Errors: kInvalid, never with a token in the message.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/access.h"

namespace outboard::cli {

struct KnownServer {
  std::string name, address, access_path;
};
Result<std::vector<KnownServer>> known_servers();  // by name
Result<void> remember_server(const std::string& name, const wire::Access& access);
Result<void> forget_server(const std::string& name);  // kNotFound when it is not known

// What `--server` and ADDR take: the name of a known server, its address, or another address. A
// line with a token is refused: it would be in the list of processes.
Result<wire::Access> resolve_server(const std::string& text, bool insecure);
void warn_of_insecurity();  // on standard error, wherever --insecure is given
// The same as an item of OUTBOARD_SERVERS: programs inherit a file's name, not what is in it.
Result<std::string> server_item(const std::string& text);
Result<std::string> access_item(const std::string& path);  // of an access file

}  // namespace outboard::cli
