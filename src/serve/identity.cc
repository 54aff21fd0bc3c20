// SPDX-License-Identifier: Apache-2.0
#include "serve/identity.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <sstream>

#include "base/files.h"
#include "base/log.h"

namespace outboard::serve {
namespace {

constexpr std::size_t kPemBytes = 1u << 20;

bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

}  // namespace

Result<std::string> default_state_folder() {
  for (const auto& [variable, below] :
       {std::pair("XDG_STATE_HOME", "/outboard"), std::pair("HOME", "/.local/state/outboard")})
    if (const char* value = std::getenv(variable); value != nullptr && *value != '\0')
      return std::string(value) + below;
  return error(ErrorKind::kInvalid,
               "no folder for the server's identity: neither XDG_STATE_HOME nor HOME is set; name "
               "one with --state");
}

Result<wire::TlsIdentity> read_identity(const std::string& certificate_path,
                                        const std::string& key_path) {
  wire::TlsIdentity identity;
  OB_TRY(identity.certificate_pem, read_file(certificate_path, kPemBytes));
  OB_TRY(identity.key_pem, read_file(key_path, kPemBytes));
  return identity;
}

Result<wire::TlsIdentity> load_or_make_identity(const std::string& state) {
  const std::string certificate = state + "/certificate.pem", key = state + "/key.pem";
  if (is_there(certificate) && is_there(key)) return read_identity(certificate, key);
  // One without the other is not replaced: clients know the server by it.
  if (is_there(certificate) != is_there(key))
    return error(
        ErrorKind::kInvalid,
        "the server's identity is not whole: of ({}) and ({}) one is missing; put it back, "
        "or remove the other for a new identity",
        certificate, key);
  OB_CHECK_OK(make_folders(state));
  OB_TRY(wire::TlsIdentity identity, wire::make_identity());
  OB_CHECK_OK(write_secret_file(key, identity.key_pem));
  OB_CHECK_OK(write_file_atomically(certificate, identity.certificate_pem));
  log_info("identity made folder={}", state);
  return identity;
}

Result<void> write_reach(const std::string& state, const Reach& reach) {
  std::string text = reach.fingerprint + "\n";
  for (const std::string& address : reach.addresses) text += address + "\n";
  return write_file_atomically(state + "/reach", text);
}

Result<Reach> read_reach(const std::string& state) {
  if (!is_there(state + "/reach")) return Reach{};
  OB_TRY(const std::string text, read_file(state + "/reach", kPemBytes));
  std::istringstream lines(text);
  Reach reach;
  std::getline(lines, reach.fingerprint);
  for (std::string line; std::getline(lines, line);) reach.addresses.push_back(line);
  return reach;
}

std::string reachable(const wire::Endpoint& endpoint) {
  wire::Endpoint shown = endpoint;
  std::array<char, 256> name{};
  if ((shown.host == "0.0.0.0" || shown.host == "::") &&
      ::gethostname(name.data(), name.size() - 1) == 0)
    shown.host = name.data();
  return shown.to_string();
}

}  // namespace outboard::serve
