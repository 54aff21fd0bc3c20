// SPDX-License-Identifier: Apache-2.0
// How a client reaches one server: its address, who it must be, and the token that it is shown.
//
// What an operator hands over is one line, outboard://HOST:PORT?id=FINGERPRINT#TOKEN. `outboard
// login` keeps it as an access file (mode 0600), and what programs inherit is that file's name.
// Its text is lines of a word and a value: address, id, ca, token; and comments.
// Values are plain; functions are thread-safe. Errors: kInvalid, never with a token in the message.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "wire/cancel.h"
#include "wire/transport/endpoint.h"
#include "wire/transport/resolver.h"
#include "wire/transport/stream.h"

namespace outboard::wire {

struct Access {
  Access() = default;
  Access(Endpoint where) : endpoint(std::move(where)) {}  // plain, on this machine

  Endpoint endpoint;
  std::optional<Sha256> identity;  // the server's public key, or
  std::string ca_path;             // a file of authorities that vouch for its name
  std::string token;
  bool insecure = false;  // plain bytes also beyond this machine
  bool is_secured() const { return identity.has_value() || !ca_path.empty(); }
  bool operator==(const Access&) const = default;
};

inline constexpr std::string_view kLoginScheme = "outboard://";
Result<Access> parse_login_line(std::string_view line);
std::string login_line(const Access& access);

Result<Access> parse_access_file(std::string_view text, std::string_view path);
Result<Access> read_access_file(const std::string& path);
std::string access_file_text(const Access& access);

// OUTBOARD_SERVERS: separated by commas, an address or access:PATH.
inline constexpr std::string_view kAccessFilePrefix = "access:";
Result<std::vector<Access>> parse_servers(std::string_view list);

// Whether OUTBOARD_INSECURE is 1: every access is insecure.
bool insecure_by_environment();

// Makes connections to one server. Thread-safe; a process that forked must make another one.
class Connector {
 public:
  explicit Connector(Access access) : access_(std::move(access)), resolver_(access_.endpoint) {}
  // A verified TLS connection where the access is secured; else a plain one, which is refused
  // where it would leave this machine, unless the access is insecure.
  // `cancel` (may be nullptr) ends its handshake.
  Result<std::unique_ptr<Stream>> connect(std::chrono::milliseconds timeout,
                                          CancelToken* cancel = nullptr);
  const Access& access() const { return access_; }

 private:
  Result<std::shared_ptr<const class TlsContext>> context();
  const Access access_;
  Resolver resolver_;
  std::mutex mutex_;
  std::shared_ptr<const class TlsContext> context_;
};

}  // namespace outboard::wire
