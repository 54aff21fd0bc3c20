// SPDX-License-Identifier: Apache-2.0
// Who is who: identities, authorities, and what an observer or an impostor gets.
#include "wire/transport/tls.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <string>
#include <thread>

namespace outboard::wire {
namespace {

// What passes, as somebody between the two sees it; and how often a side spoke.
struct Wiretap {
  std::mutex mutex;
  std::string seen;
  int writes = 0;
};

class Tapped final : public Stream {
 public:
  Tapped(std::unique_ptr<Stream> below, Wiretap& tap) : below_(std::move(below)), tap_(tap) {}
  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    return below_->read_some(buffers);
  }
  Result<void> write_all(std::span<iovec> buffers) override {
    {
      const std::lock_guard lock(tap_.mutex);
      ++tap_.writes;
      for (const iovec& b : buffers) tap_.seen.append(static_cast<char*>(b.iov_base), b.iov_len);
    }
    return below_->write_all(buffers);
  }
  void set_stall_timeout(std::chrono::milliseconds t) override { below_->set_stall_timeout(t); }
  void shut_down() override { below_->shut_down(); }
  Result<std::size_t> peek(std::span<std::byte> buffer) override { return below_->peek(buffer); }
  int poll_fd() const override { return below_->poll_fd(); }

 private:
  std::unique_ptr<Stream> below_;
  Wiretap& tap_;
};

Result<void> write_text(Stream& stream, std::string text) {
  iovec part{text.data(), text.size()};
  return stream.write_all(std::span(&part, 1));
}

Result<std::string> read_text(Stream& stream, std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t done = 0; done < size;) {
    const iovec part{text.data() + done, size - done};
    OB_TRY(const std::size_t n, stream.read_some(std::span(&part, 1)));
    done += n;
  }
  return text;
}

// A server that reads a secret and answers, and what became of both sides.
struct Meeting {
  Result<void> client = error(ErrorKind::kInternal, "not yet");
  Result<std::string> server = error(ErrorKind::kInternal, "not yet");
  Wiretap from_client, from_server;
};

const std::string kSecret = "the token that nobody may see";

void meet(Meeting& meeting, const TlsIdentity& identity, TlsTrust trust) {
  auto [here, there] = make_stream_pair();
  std::thread serving([&, below = std::move(there)]() mutable {
    auto stream = tls_accept(std::make_unique<Tapped>(std::move(below), meeting.from_server),
                             TlsContext::server(identity).value());
    if (!stream) {
      meeting.server = tl::make_unexpected(stream.error());
      return;
    }
    meeting.server = read_text(**stream, kSecret.size());
    (void)write_text(**stream, "answer");
  });
  meeting.client = [&]() -> Result<void> {
    OB_TRY(const auto context, TlsContext::client(std::move(trust)));
    OB_TRY(const auto stream,
           tls_connect(std::make_unique<Tapped>(std::move(here), meeting.from_client), context));
    OB_CHECK_OK(write_text(*stream, kSecret));
    OB_TRY(const std::string answer, read_text(*stream, 6));
    EXPECT_EQ(answer, "answer");
    return {};
  }();
  serving.join();
}

Sha256 known(const TlsIdentity& identity) {
  return fingerprint_of(identity.certificate_pem).value();
}

TEST(Tls, TheKnownIdentityIsTaken) {
  const TlsIdentity identity = make_identity().value();
  Meeting meeting;
  meet(meeting, identity, {known(identity), {}, {}});
  ASSERT_TRUE(meeting.client) << meeting.client.error().message;
  ASSERT_TRUE(meeting.server) << meeting.server.error().message;
  EXPECT_EQ(*meeting.server, kSecret);
  EXPECT_EQ(meeting.from_client.seen.find(kSecret), std::string::npos);
  // Two flights: the greeting, and the end of the handshake together with the first data.
  EXPECT_EQ(meeting.from_client.writes, 2);
  EXPECT_EQ(meeting.from_server.writes, 2);
}

TEST(Tls, EveryIdentityIsItsOwn) {
  EXPECT_NE(known(make_identity().value()), known(make_identity().value()));
}

TEST(Tls, AnImpostorGetsNothing) {
  const TlsIdentity identity = make_identity().value(), impostor = make_identity().value();
  Meeting meeting;
  meet(meeting, impostor, {known(identity), {}, {}});
  ASSERT_FALSE(meeting.client);
  EXPECT_EQ(meeting.client.error().kind, ErrorKind::kRefused);
  EXPECT_NE(meeting.client.error().message.find(known(identity).hex()), std::string::npos);
  EXPECT_NE(meeting.client.error().message.find(known(impostor).hex()), std::string::npos);
  EXPECT_FALSE(meeting.server) << "it never saw the secret";
}

// Somebody who has the certificate, which is public, but not the key.
TEST(Tls, ACertificateWithoutItsKeyIsNone) {
  const TlsIdentity identity = make_identity().value(), other = make_identity().value();
  EXPECT_FALSE(TlsContext::server({identity.certificate_pem, other.key_pem}));
  EXPECT_FALSE(TlsContext::server({"no certificate", identity.key_pem}));
  EXPECT_FALSE(TlsContext::server({identity.certificate_pem, ""}));
  EXPECT_FALSE(fingerprint_of("nothing"));
}

TEST(Tls, AuthoritiesVouchForAName) {
  // A certificate that signed itself is its own authority; its name is not the host's.
  const TlsIdentity identity = make_identity().value();
  Meeting meeting;
  meet(meeting, identity, {{}, identity.certificate_pem, "another.example"});
  ASSERT_FALSE(meeting.client);
  EXPECT_EQ(meeting.client.error().kind, ErrorKind::kRefused);
  EXPECT_NE(meeting.client.error().message.find("another.example"), std::string::npos)
      << meeting.client.error().message;
  Meeting named;
  meet(named, identity, {{}, identity.certificate_pem, "outboard"});
  EXPECT_TRUE(named.client) << named.client.error().message;
  Meeting unknown;
  meet(unknown, identity, {{}, make_identity()->certificate_pem, "outboard"});
  EXPECT_FALSE(unknown.client);
  EXPECT_FALSE(TlsContext::client({{}, "no certificates", "outboard"}));
}

// Any byte changed on the way is an end, never other data.
TEST(Tls, WhatIsChangedOnTheWayIsNotTaken) {
  const TlsIdentity identity = make_identity().value();
  auto server = TlsSession::make(TlsContext::server(identity).value()).value();
  auto client = TlsSession::make(TlsContext::client({known(identity), {}, {}}).value()).value();
  const auto carry = [](TlsSession& from, TlsSession& to, bool spoil) {
    std::vector<std::byte>& bytes = from.output();
    if (bytes.empty()) return;
    if (spoil) bytes[bytes.size() - 5] ^= std::byte{1};
    std::ranges::copy(bytes, to.input_space(bytes.size()).begin());
    to.received(bytes.size());
    bytes.clear();
  };
  ASSERT_FALSE(client->handshake().value());
  carry(*client, *server, false);
  ASSERT_FALSE(server->handshake().value());
  carry(*server, *client, false);
  ASSERT_TRUE(client->handshake().value());
  carry(*client, *server, false);
  ASSERT_TRUE(server->handshake().value());
  ASSERT_TRUE(client->write(std::as_bytes(std::span("hello"))));
  carry(*client, *server, true);
  std::array<std::byte, 16> read{};
  EXPECT_FALSE(server->read(read));
}

TEST(Tls, WhatIsNoTlsIsASentence) {
  const TlsIdentity identity = make_identity().value();
  auto session = TlsSession::make(TlsContext::server(identity).value()).value();
  const std::string plain = "OTB1 this is a plain hello of a client that does not speak TLS";
  std::ranges::copy(std::as_bytes(std::span(plain)), session->input_space(plain.size()).begin());
  session->received(plain.size());
  const auto done = session->handshake();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace outboard::wire
