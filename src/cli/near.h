// SPDX-License-Identifier: Apache-2.0
// Servers nearby: what one tells of itself by DNS-SD, and which of those that are heard may be
// used. Anybody on the link can announce anything, so what is heard only says where to look: a
// server is used where a token is held for the very identity that it claims, and the claim is
// proven (TLS, pinned) before the token leaves.
//
// TXT record: txtvers=1, version (of the software), device, id (SHA-256 of the public key, 64
// hexadecimal digits; none: the server has no identity). Unknown keys are passed over.
// Pure; thread-safe. Errors: kInvalid.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "wire/access.h"
#include "wire/transport/endpoint.h"

namespace outboard::cli {

inline constexpr const char* kServiceType = "_outboard._tcp";

struct Announced {
  std::string name;  // 1 to 63 bytes of UTF-8
  std::string version, device;
  std::optional<Sha256> identity;
};
// "key=value" each.
std::vector<std::string> announcement_text(const Announced& announced);

struct NearServer {
  std::string name;  // like device and version fit for a terminal, whatever was sent
  wire::Endpoint endpoint;
  std::string device, version;
  std::optional<Sha256> identity;
};
// Of another version of the record, or with an identity that is none: kInvalid.
Result<NearServer> parse_announcement(std::string_view name, wire::Endpoint endpoint,
                                      std::span<const std::string> text);

// At most `max_bytes` of it, with '?' for what is no printable UTF-8.
std::string printable(std::string_view text, std::size_t max_bytes);

// One server may be heard over several interfaces and protocols: of equal names and identities the
// first stays, IPv4 before global before link-local IPv6. By name.
std::vector<NearServer> without_repetitions(std::vector<NearServer> heard);

// A server that this user knows, and what is held for it.
struct Held {
  std::string name, access_path;
  wire::Access access;
};
struct NearMatch {
  const Held* held = nullptr;  // its token may be shown to the server, at the server's address
  std::string refusal;         // else a sentence, where the server claims a known one's name
};
// `held` lives longer than the answer.
NearMatch match_near(const NearServer& server, std::span<const Held> held);

}  // namespace outboard::cli
