// SPDX-License-Identifier: Apache-2.0
// Where a server listens: "HOST:PORT", "[IPV6]:PORT" or "unix:PATH"; and the sockets to and from
// it. Thread-safe, but for one Listener::accept() at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "wire/transport/stream.h"

struct sockaddr;

namespace outboard::wire {

struct Endpoint {
  enum class Kind : std::uint8_t { kTcp, kUnix };
  Kind kind = Kind::kTcp;
  std::string host;        // tcp: a name or an address, without brackets
  std::uint16_t port = 0;  // tcp: 0 asks a listener for a free one
  std::string path;        // unix
  std::string to_string() const;
  bool operator==(const Endpoint&) const = default;
};

inline constexpr std::uint16_t kDefaultPort = 7070;

// kInvalid with what was given and what was expected. A missing ":PORT" is kDefaultPort.
Result<Endpoint> parse_endpoint(std::string_view text);
// Whether nobody beyond this machine can reach it: a unix socket, or an address of the loopback
// range ("localhost" is resolved). kInvalid when the name does not resolve.
Result<bool> is_local(const Endpoint& endpoint);
bool is_loopback(const sockaddr* address);  // IPv4, IPv6 and IPv4 within IPv6

class Resolver;

// kDisconnected when nobody answers, or its name does not resolve; kTimeout after `timeout`.
Result<std::unique_ptr<Stream>> connect_to(const Endpoint& endpoint,
                                           std::chrono::milliseconds timeout);
// The same with a resolver (resolver.h) that knows what it found before.
Result<std::unique_ptr<Stream>> connect_to(const Endpoint& endpoint,
                                           std::chrono::milliseconds timeout, Resolver& resolver);

class Listener {
 public:
  virtual ~Listener() = default;
  // Waits for a client. kDisconnected after shut_down(). kOverloaded when this process is out of
  // file descriptors or memory: the caller may try again when a connection has ended.
  virtual Result<std::unique_ptr<Stream>> accept() = 0;
  // The same, as a bare descriptor that the caller owns.
  virtual Result<int> accept_descriptor() = 0;
  virtual void shut_down() = 0;                 // any thread
  virtual Endpoint local_endpoint() const = 0;  // with the real port
};

// A unix socket's file that nobody listens on any more is replaced; one in use is kInvalid.
Result<std::unique_ptr<Listener>> listen_on(const Endpoint& endpoint);

}  // namespace outboard::wire
