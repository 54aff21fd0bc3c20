// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 over any Stream, by OpenSSL 3: the only way beyond loopback (docs/security.md).
//
// A server has an identity: a key and a certificate, self-signed unless its owner gives another. A
// client knows either the identity's fingerprint (the SHA-256 of the public key, as DER
// SubjectPublicKeyInfo) and takes no other, or authorities and the host's name, as a browser does.
// No session tickets, no resumption, no data before the handshake is complete (0-RTT): nothing that
// may be replayed. A client's last message of the handshake leaves with its first bytes of data.
//
// Errors: kRefused for an identity that is not the expected one; kInvalid for bytes that are no
// TLS 1.3, and for keys and certificates that cannot be used; else those of the Stream below.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "wire/cancel.h"
#include "wire/transport/stream.h"

namespace outboard::wire {

struct TlsIdentity {
  std::string certificate_pem;  // a chain, the server's own first
  std::string key_pem;          // a secret
};
// A fresh Ed25519 key with a certificate that it signed itself.
Result<TlsIdentity> make_identity();
Result<Sha256> fingerprint_of(std::string_view certificate_pem);

// Whom a client takes for its server.
struct TlsTrust {
  std::optional<Sha256> identity;  // this one and no other, or
  std::string authorities_pem;     // one that these vouch for, and
  std::string host;                // whose certificate has this name or address
};

// Keys and settings of many connections. Thread-safe, immutable. A process that forked must make
// another one.
class TlsContext {
 public:
  static Result<std::shared_ptr<const TlsContext>> server(const TlsIdentity& identity);
  static Result<std::shared_ptr<const TlsContext>> client(TlsTrust trust);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  const std::optional<Sha256>& identity() const { return trust_.identity; }

 private:
  friend class TlsSession;
  struct Handles;
  TlsContext(std::unique_ptr<Handles> handles, TlsTrust trust);
  std::unique_ptr<Handles> handles_;
  TlsTrust trust_;
};

// One connection's state without any input or output: bytes of the network go in and come out.
// Not thread-safe.
class TlsSession {
 public:
  static Result<std::unique_ptr<TlsSession>> make(std::shared_ptr<const TlsContext> context);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Room for bytes from the network, at least so many; received() says how many came.
  std::span<std::byte> input_space(std::size_t at_least);
  void received(std::size_t bytes) { end_ += bytes; }
  std::span<const std::byte> input() const { return std::span(in_).subspan(begin_, end_ - begin_); }

  // True: the handshake is complete, and the peer is who it should be. False: more input is needed;
  // what output() has must be sent first.
  Result<bool> handshake();
  // Deciphered bytes; 0: more input is needed.
  Result<std::size_t> read(std::span<std::byte> destination, bool consume = true);
  bool holds_bytes() const;
  Result<void> write(std::span<const std::byte> bytes);  // into output()
  // What is to be sent; whoever sends it clears it.
  std::vector<std::byte>& output() { return out_; }

 private:
  struct Handles;
  friend struct TlsCallbacks;
  explicit TlsSession(std::shared_ptr<const TlsContext> context);
  tl::unexpected<Error> failed(std::string_view doing);

  const std::shared_ptr<const TlsContext> context_;
  std::unique_ptr<Handles> handles_;
  std::vector<std::byte> in_, out_;
  std::size_t begin_ = 0, end_ = 0;  // of in_
  std::optional<Error> refusal_;     // of the peer's certificate
};

// The client's side of a connection: shakes hands, verifies the server, and returns a stream whose
// first bytes take the last message of the handshake with them. `cancel` (may be nullptr) ends it.
Result<std::unique_ptr<Stream>> tls_connect(std::unique_ptr<Stream> below,
                                            std::shared_ptr<const TlsContext> context,
                                            CancelToken* cancel = nullptr);
// The server's side; blocks until the client has completed its handshake.
Result<std::unique_ptr<Stream>> tls_accept(std::unique_ptr<Stream> below,
                                           std::shared_ptr<const TlsContext> context);
// A stream over a handshake that was completed elsewhere.
std::unique_ptr<Stream> make_tls_stream(std::unique_ptr<Stream> below,
                                        std::unique_ptr<TlsSession> session);

}  // namespace outboard::wire
