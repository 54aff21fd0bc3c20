// SPDX-License-Identifier: Apache-2.0
#include "cli/servers_file.h"

#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <sstream>

#include "base/files.h"

namespace outboard::cli {
namespace {

constexpr std::size_t kFileBytes = 1u << 20;

Result<std::string> config_folder() {
  for (const auto& [variable, below] :
       {std::pair("XDG_CONFIG_HOME", "/outboard"), std::pair("HOME", "/.config/outboard")})
    if (const char* value = std::getenv(variable); value != nullptr && *value != '\0')
      return std::string(value) + below;
  return error(ErrorKind::kInvalid,
               "no folder for what is known of servers: neither XDG_CONFIG_HOME nor HOME is set");
}

Result<void> write_servers(const std::string& folder, const std::vector<KnownServer>& servers) {
  toml::table names;
  for (const KnownServer& server : servers)
    names.insert(server.name,
                 toml::table{{"address", server.address}, {"access", server.access_path}});
  std::ostringstream text;
  text << "# Servers that `outboard login` was told of. Tokens are in the access files.\n"
       << toml::table{{"servers", std::move(names)}} << "\n";
  return write_file_atomically(folder + "/servers.toml", text.str());
}

std::optional<KnownServer> find_server(const std::vector<KnownServer>& servers,
                                       const std::string& text) {
  const auto named = std::ranges::find(servers, text, &KnownServer::name);
  if (named != servers.end()) return *named;
  const auto endpoint = wire::parse_endpoint(text);
  if (!endpoint) return std::nullopt;
  const auto addressed = std::ranges::find(servers, endpoint->to_string(), &KnownServer::address);
  if (addressed != servers.end()) return *addressed;
  return std::nullopt;
}

// A name is a file's, too.
Result<void> check_name(const std::string& name) {
  if (!name.empty() && name.size() <= 255 && name.front() != '.' &&
      name.find_first_of("/,\n") == std::string::npos)
    return {};
  return error(ErrorKind::kInvalid,
               "the server's name ({}) must have no '/', no ',' and no '.' at its beginning", name);
}

Result<void> refuse_tokens(const std::string& text) {
  if (text.find("://") == std::string::npos && text.find('#') == std::string::npos) return {};
  return error(ErrorKind::kInvalid,
               "a server is given by its name or address; a line with a token belongs on the "
               "standard input of `outboard login`, as others can see a command's arguments");
}

}  // namespace

Result<std::vector<KnownServer>> known_servers() {
  OB_TRY(const std::string folder, config_folder());
  const std::string path = folder + "/servers.toml";
  std::vector<KnownServer> servers;
  if (::access(path.c_str(), F_OK) != 0) return servers;
  OB_TRY(const std::string text, read_file(path, kFileBytes));
  try {
    const toml::table document = toml::parse(text);
    const toml::table* names = document["servers"].as_table();
    if (names == nullptr) return servers;
    for (const auto& [name, value] : *names) {
      const toml::table* entry = value.as_table();
      const auto field = [&](const char* key) {
        return entry == nullptr ? std::string() : (*entry)[key].value_or(std::string());
      };
      if (field("address").empty() || field("access").empty())
        return error(ErrorKind::kInvalid,
                     "servers.{} of the file ({}) must have an address and an access file",
                     name.str(), path);
      servers.push_back({std::string(name.str()), field("address"), field("access")});
    }
    return servers;
  } catch (const toml::parse_error& e) {
    return error(ErrorKind::kInvalid, "the file ({}) is not TOML: {} (line {})", path,
                 e.description(), e.source().begin.line);
  }
}

Result<void> remember_server(const std::string& name, const wire::Access& access) {
  OB_CHECK_OK(check_name(name));
  OB_TRY(const std::string folder, config_folder());
  OB_CHECK_OK(make_folders(folder + "/access"));
  const std::string path = folder + "/access/" + name;
  OB_TRY(auto servers, known_servers());
  OB_CHECK_OK(write_secret_file(path, wire::access_file_text(access)));
  std::erase_if(servers, [&](const KnownServer& server) { return server.name == name; });
  servers.push_back({name, access.endpoint.to_string(), path});
  return write_servers(folder, servers);
}

Result<void> forget_server(const std::string& name) {
  OB_TRY(const std::string folder, config_folder());
  OB_TRY(auto servers, known_servers());
  const auto found = std::ranges::find(servers, name, &KnownServer::name);
  if (found == servers.end())
    return error(ErrorKind::kNotFound, "no server of the name ({}) is known", name);
  ::unlink(found->access_path.c_str());
  servers.erase(found);
  return write_servers(folder, servers);
}

void warn_of_insecurity() {
  std::fprintf(stderr,
               "outboard: warning: --insecure: what passes can be read and changed on the way\n");
}

Result<wire::Access> resolve_server(const std::string& text, bool insecure) {
  OB_CHECK_OK(refuse_tokens(text));
  OB_TRY(const auto servers, known_servers());
  if (const auto known = find_server(servers, text))
    return wire::read_access_file(known->access_path);
  OB_TRY(wire::Access access, wire::parse_endpoint(text));
  if (insecure) warn_of_insecurity();
  access.insecure = insecure;
  return access;
}

Result<std::string> server_item(const std::string& text) {
  OB_CHECK_OK(refuse_tokens(text));
  OB_TRY(const auto servers, known_servers());
  const auto known = find_server(servers, text);
  if (!known) {
    OB_TRY(const wire::Endpoint endpoint, wire::parse_endpoint(text));
    return endpoint.to_string();
  }
  OB_CHECK_OK(wire::read_access_file(known->access_path));
  return access_item(known->access_path);
}

Result<std::string> access_item(const std::string& path) {
  if (path.find(',') != std::string::npos)
    return error(ErrorKind::kInvalid, "the access file's path ({}) must have no comma", path);
  return std::string(wire::kAccessFilePrefix) + path;
}

}  // namespace outboard::cli
