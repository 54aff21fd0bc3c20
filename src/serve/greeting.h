// SPDX-License-Identifier: Apache-2.0
// What a connection says before it has proven a token: TLS 1.3's handshake, then one hello of the
// protocol. Bytes in, bytes out; no input or output of its own, so that anything can be tried on
// it.
//
// Everything here is bounded before it is believed: a message of the handshake must lie whole in
// one record of at most 8 KiB (OpenSSL alone would make room for 128 KiB on being told so), and the
// hello's frame has at most 8 KiB.
// Not thread-safe. Errors end the connection: kInvalid for what is no TLS, or no hello.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/frame.h"
#include "wire/messages.h"
#include "wire/transport/tls.h"

namespace outboard::serve {

class Greeting {
 public:
  static constexpr std::size_t kStepBytes = 2u << 10;

  static Result<Greeting> make(std::shared_ptr<const wire::TlsContext> context);

  // Where the next bytes go; then received() takes them, and is true when the hello is complete.
  std::span<std::byte> space();
  Result<bool> received(std::size_t bytes);
  std::vector<std::byte>& output() { return session_->output(); }

  // Of a complete hello.
  std::uint64_t request_id() const { return header_.request_id; }
  const wire::Hello& hello() const { return hello_; }
  std::string_view token() const;  // "" when none was shown
  // An error frame in answer, into output(). Only once the handshake is complete.
  void refuse(const Error& error);
  bool is_private() const { return is_private_; }
  std::unique_ptr<wire::TlsSession> take_session() { return std::move(session_); }

 private:
  explicit Greeting(std::unique_ptr<wire::TlsSession> session) : session_(std::move(session)) {}
  Result<void> shake_hands();
  Result<bool> read_hello();

  std::unique_ptr<wire::TlsSession> session_;
  std::vector<std::byte> raw_;  // what has come and was not given to the session yet
  std::size_t raw_size_ = 0;
  bool is_private_ = false;  // the handshake is complete
  std::array<std::byte, wire::kFrameHeaderBytes> header_bytes_{};
  std::size_t header_size_ = 0;
  wire::FrameHeader header_;
  std::string payload_;
  std::size_t payload_size_ = 0;
  wire::Hello hello_;
};

}  // namespace outboard::serve
