// SPDX-License-Identifier: Apache-2.0
// A server's state folder: who it is (certificate.pem, and key.pem of mode 0600), whom it admits
// (tokens.json), and where it listens (addresses), for `outboard token add` to print.
// Thread-safe. Errors: kInvalid with the path.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "wire/transport/endpoint.h"
#include "wire/transport/tls.h"

namespace outboard::serve {

// $XDG_STATE_HOME/outboard, else ~/.local/state/outboard; kInvalid when neither is set.
Result<std::string> default_state_folder();

inline std::string tokens_path(const std::string& state) { return state + "/tokens.json"; }

// What the folder has; made when it has none.
Result<wire::TlsIdentity> load_or_make_identity(const std::string& state);
// A certificate and key of the operator's own.
Result<wire::TlsIdentity> read_identity(const std::string& certificate_path,
                                        const std::string& key_path);

// What a server wrote of itself at its start.
struct Reach {
  std::vector<std::string> addresses;  // as others reach it
  std::string fingerprint;             // of its identity, 64 hexadecimal digits
};
Result<void> write_reach(const std::string& state, const Reach& reach);
Result<Reach> read_reach(const std::string& state);

// Where others find what listens at `endpoint`: this machine's name in place of an address that
// stands for all of its addresses.
std::string reachable(const wire::Endpoint& endpoint);

}  // namespace outboard::serve
