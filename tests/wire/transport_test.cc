// SPDX-License-Identifier: Apache-2.0
// One set of tests for every transport.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <future>
#include <mutex>
#include <numeric>
#include <thread>

#include "wire/connection.h"
#include "wire/transport/endpoint.h"
#include "wire/transport/resolver.h"
#include "wire/transport/ring_stream.h"
#include "wire/transport/tls.h"

namespace outboard::wire {
namespace {

using std::chrono::milliseconds;

std::string socket_path() {
  return (std::filesystem::temp_directory_path() / fmt::format("outboard-test-{}.sock", ::getpid()))
      .string();
}

using Ends = std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>>;

Ends connected(const std::string& transport);

// TLS over TCP; a byte each way completes the handshake on both sides.
Ends secured() {
  auto [client, server] = connected("tcp");
  const TlsIdentity identity = make_identity().value();
  const Sha256 known = fingerprint_of(identity.certificate_pem).value();
  std::unique_ptr<Stream> accepted;
  std::thread accepting([&, below = std::move(server)]() mutable {
    accepted = tls_accept(std::move(below), TlsContext::server(identity).value()).value();
  });
  auto connecting = tls_connect(std::move(client), TlsContext::client({known, {}, {}}).value());
  std::byte byte{1};
  iovec part{&byte, 1};
  EXPECT_TRUE((*connecting)->write_all(std::span(&part, 1)));
  accepting.join();
  part = {&byte, 1};
  EXPECT_TRUE(accepted->read_some(std::span(&part, 1)));
  return {std::move(*connecting), std::move(accepted)};
}

// Rings over a unix socket; each side's region as it would come to the other.
Ends over_rings() {
  auto [client, server] = connected("unix");
  auto a = make_ring_region().value(), b = make_ring_region().value();
  PeerRegion for_a = map_ring_region(FileDescriptor(::dup(b.descriptor()))).value(),
             for_b = map_ring_region(FileDescriptor(::dup(a.descriptor()))).value();
  return {make_ring_stream(std::move(client), std::move(a), std::move(for_a)),
          make_ring_stream(std::move(server), std::move(b), std::move(for_b))};
}

Ends connected(const std::string& transport) {
  if (transport == "pair") return make_stream_pair();
  if (transport == "tls") return secured();
  if (transport == "rings") return over_rings();
  const Endpoint endpoint =
      parse_endpoint(transport == "unix" ? "unix:" + socket_path() : "127.0.0.1:0").value();
  auto listener = listen_on(endpoint).value();
  auto client = connect_to(listener->local_endpoint(), milliseconds(5000)).value();
  return {std::move(client), listener->accept().value()};
}

class Transport : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { std::tie(a_, b_) = connected(GetParam()); }
  std::unique_ptr<Stream> a_, b_;
};
INSTANTIATE_TEST_SUITE_P(All, Transport, ::testing::Values("tcp", "unix", "pair", "tls", "rings"),
                         [](const auto& info) { return std::string(info.param); });

std::vector<std::byte> numbers(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 251);
  return bytes;
}

TEST_P(Transport, LargeFramesArriveWhole) {
  const auto sent = numbers((5u << 20) + 3);
  std::thread writer([&, connection = std::make_unique<Connection>(std::move(a_))] {
    const std::array<iovec, 3> parts{
        {{const_cast<std::byte*>(sent.data()), 10},
         {nullptr, 0},
         {const_cast<std::byte*>(sent.data()) + 10, sent.size() - 10}}};
    EXPECT_TRUE(connection->send({.kind = FrameKind::kRun, .request_id = 1}, parts));
    EXPECT_TRUE(connection->send({.kind = FrameKind::kPing, .request_id = 2}, "next"));
  });
  Connection receiver(std::move(b_));
  const FrameHeader header = receiver.receive_header().value();
  EXPECT_EQ(header.length, sent.size());
  std::vector<std::byte> got(sent.size());
  ASSERT_TRUE(receiver.read(std::span(got).first(7)));
  ASSERT_TRUE(receiver.read(std::span(got).subspan(7)));
  EXPECT_EQ(got, sent);
  EXPECT_EQ(receiver.receive_header().value().request_id, 2u);
  EXPECT_EQ(receiver.read_string(4).value(), "next");
  writer.join();
}

TEST_P(Transport, WhatMovesIsSeenOnBothSides) {
  const auto sent = numbers(200'000);
  Connection sender(std::move(a_)), receiver(std::move(b_));
  const std::uint64_t left_before = sender.moved_bytes(), came_before = receiver.moved_bytes();
  std::thread writer([&] {
    const iovec part{const_cast<std::byte*>(sent.data()), sent.size()};
    EXPECT_TRUE(sender.send({.kind = FrameKind::kRun}, std::span(&part, 1)));
  });
  ASSERT_TRUE(receiver.receive_header());
  ASSERT_TRUE(receiver.skip(sent.size()));
  writer.join();
  EXPECT_GE(receiver.moved_bytes(), came_before + sent.size());
  if (GetParam() == std::string("unix")) return;  // does not see what its peer has
  // Its peer's system says so a moment later.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const auto is_delivered = [&] { return sender.moved_bytes() >= left_before + sent.size(); };
  while (!is_delivered() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_TRUE(is_delivered());
}

TEST_P(Transport, MoreThanTheFrameHasIsRefused) {
  Connection sender(std::move(a_)), receiver(std::move(b_));
  ASSERT_TRUE(sender.send({.kind = FrameKind::kPing}, "four"));
  ASSERT_TRUE(receiver.receive_header());
  std::array<std::byte, 5> five{};
  EXPECT_EQ(receiver.read(five).error().kind, ErrorKind::kInvalid);
}

TEST_P(Transport, SmallFramesCostOneReadEach) {
  Connection sender(std::move(a_)), receiver(std::move(b_));
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(sender.send({.kind = FrameKind::kPing, .request_id = 5}, "x"));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(receiver.receive_header());
    ASSERT_TRUE(receiver.skip(1));
  }
  EXPECT_EQ(receiver.frames_received(), 100u);
  EXPECT_EQ(receiver.bytes_received(), sender.bytes_sent());
}

// A look takes what is there, in several pieces if need be, and never waits.
TEST_P(Transport, LookingTakesWhatIsThere) {
  if (!b_->can_look()) GTEST_SKIP() << "this transport always waits";
  std::array<std::byte, 100> got{};
  const iovec space{got.data(), got.size()};
  EXPECT_EQ(b_->read_what_is_there(std::span(&space, 1)).value(), 0u);
  auto sent = numbers(150'000);
  std::thread writer([&] {
    iovec part{sent.data(), sent.size()};
    EXPECT_TRUE(a_->write_all(std::span(&part, 1)));
    a_.reset();
  });
  std::vector<std::byte> all;
  while (all.size() < sent.size()) {
    const auto n = b_->read_what_is_there(std::span(&space, 1));
    ASSERT_TRUE(n) << n.error().message;
    all.insert(all.end(), got.begin(), got.begin() + static_cast<std::ptrdiff_t>(*n));
    if (*n == 0) std::this_thread::yield();
  }
  EXPECT_EQ(all, sent);
  EXPECT_EQ(b_->read_some(std::span(&space, 1)).error().kind, ErrorKind::kDisconnected);
  writer.join();
}

TEST_P(Transport, TheEndOfTheStreamIsDisconnected) {
  Connection receiver(std::move(b_));
  a_.reset();
  EXPECT_EQ(receiver.receive_header().error().kind, ErrorKind::kDisconnected);
}

TEST_P(Transport, ShutDownWakesTheReader) {
  std::thread reader([&] {
    std::byte byte;
    const iovec buffer{&byte, 1};
    EXPECT_EQ(b_->read_some(std::span(&buffer, 1)).error().kind, ErrorKind::kDisconnected);
  });
  b_->shut_down();
  reader.join();
}

TEST_P(Transport, APeerThatIsSilentIsATimeout) {
  b_->set_stall_timeout(milliseconds(20));
  std::byte byte;
  const iovec buffer{&byte, 1};
  EXPECT_EQ(b_->read_some(std::span(&buffer, 1)).error().kind, ErrorKind::kTimeout);
}

TEST_P(Transport, APeerThatDoesNotReadIsATimeout) {
  a_->set_stall_timeout(milliseconds(20));
  std::vector<std::byte> much(64u << 20);
  iovec buffer{much.data(), much.size()};
  EXPECT_EQ(a_->write_all(std::span(&buffer, 1)).error().kind, ErrorKind::kTimeout);
}

// What the system holds of a request that was given up would leave before anything that follows.
TEST_P(Transport, WhatWasAbandonedDoesNotLeaveOverTcp) {
  if (GetParam() != std::string("tcp")) GTEST_SKIP() << "only TCP has a link that could be slow";
  a_->set_stall_timeout(milliseconds(200));
  std::vector<std::byte> much(64u << 20);
  iovec buffer{much.data(), much.size()};
  ASSERT_EQ(a_->write_all(std::span(&buffer, 1)).error().kind, ErrorKind::kTimeout);
  const std::uint64_t delivered = a_->delivered_bytes();
  a_->abandon();
  a_.reset();
  std::uint64_t came = 0;
  const iovec space{much.data(), much.size()};
  while (const auto more = b_->read_some(std::span(&space, 1))) came += *more;
  // Where it is only shut down, some megabytes more.
  constexpr std::uint64_t kOnItsWay = 64u << 10;
  EXPECT_LE(came, delivered + kOnItsWay);
}

TEST_P(Transport, PeekSeesWithoutConsuming) {
  std::array<std::byte, 4> seen{};
  EXPECT_EQ(b_->peek(seen).value(), 0u);
  std::string text = "ab";
  iovec buffer{text.data(), text.size()};
  ASSERT_TRUE(a_->write_all(std::span(&buffer, 1)));
  EXPECT_EQ(b_->peek(seen).value(), 2u);
  EXPECT_EQ(b_->peek(seen).value(), 2u);
  const iovec all{seen.data(), seen.size()};
  EXPECT_EQ(b_->read_some(std::span(&all, 1)).value(), 2u);
  a_.reset();
  EXPECT_EQ(b_->peek(seen).error().kind, ErrorKind::kDisconnected);
}

TEST_P(Transport, AFrameThatIsNoneEndsInASentence) {
  std::string text(64, 'G');
  iovec buffer{text.data(), text.size()};
  ASSERT_TRUE(a_->write_all(std::span(&buffer, 1)));
  Connection receiver(std::move(b_));
  EXPECT_NE(receiver.receive_header().error().message.find("magic"), std::string::npos);
}

TEST(Endpoint, Parses) {
  EXPECT_EQ(parse_endpoint("edge:80").value().to_string(), "edge:80");
  EXPECT_EQ(parse_endpoint("edge").value().port, kDefaultPort);
  EXPECT_EQ(parse_endpoint("[::1]:80").value().host, "::1");
  EXPECT_EQ(parse_endpoint("[::1]:80").value().to_string(), "[::1]:80");
  EXPECT_EQ(parse_endpoint("unix:/tmp/x").value().path, "/tmp/x");
}

TEST(Endpoint, SaysWhatIsWrong) {
  for (const char* bad :
       {"", ":80", "a:", "unix:", "[::1", "a:b:1", "::1", "http://x", "a:65536", "a:8x", "a b:1"})
    EXPECT_FALSE(parse_endpoint(bad)) << bad;
  EXPECT_EQ(parse_endpoint("edge:99999").error().message,
            "port (99999) of address (edge:99999) must be a number from 0 to 65535");
}

TEST(Endpoint, KnowsWhatIsLocal) {
  EXPECT_TRUE(is_local(parse_endpoint("127.0.0.5:1").value()).value());
  EXPECT_TRUE(is_local(parse_endpoint("localhost:1").value()).value());
  EXPECT_TRUE(is_local(parse_endpoint("[::1]:1").value()).value());
  EXPECT_TRUE(is_local(parse_endpoint("unix:/x").value()).value());
  EXPECT_FALSE(is_local(parse_endpoint("0.0.0.0:1").value()).value());
  EXPECT_FALSE(is_local(parse_endpoint("192.0.2.1:1").value()).value());
}

// Not kInvalid, which would be for good: a device that has lost its link has no resolver, either.
TEST(Endpoint, ANameThatDoesNotResolveIsAServerThatCannotBeReached) {
  const auto stream = connect_to(parse_endpoint("nobody.invalid:1").value(), milliseconds(5000));
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().kind, ErrorKind::kDisconnected);
  EXPECT_NE(stream.error().message.find("host name (nobody.invalid) does not resolve"),
            std::string::npos)
      << stream.error().message;
}

Addresses one_address() {
  return look_up({.kind = Endpoint::Kind::kTcp, .host = "127.0.0.1", .port = 1, .path = {}}, 0)
      .value();
}

TEST(Resolver, WhatWasFoundBeforeIsUsedWhileALookUpHangs) {
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<int> asked{0};
  bool hangs = false;
  const auto wait = [&] {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !hangs; });
  };
  Resolver resolver([&]() -> Result<Addresses> {
    ++asked;
    wait();
    return one_address();
  });
  const auto in = [](milliseconds time) { return Deadline::in(time); };
  const Addresses first = resolver.addresses(in(std::chrono::seconds(20))).value();
  {
    const std::lock_guard lock(mutex);
    hangs = true;
  }
  EXPECT_EQ(resolver.addresses(in(milliseconds(20))).value(), first);
  EXPECT_EQ(resolver.addresses(in(milliseconds(20))).value(), first);
  EXPECT_LE(asked, 2) << "one at a time";
  {
    const std::lock_guard lock(mutex);
    hangs = false;
    changed.notify_all();
  }
  EXPECT_NE(resolver.addresses(Deadline::never()).value(), first);
}

TEST(Resolver, WithoutAnythingFoundATimeLimitIsOne) {
  const auto hanging = std::make_shared<std::promise<void>>();
  {
    Resolver resolver([hanging]() -> Result<Addresses> {
      hanging->get_future().wait();
      return one_address();
    });
    EXPECT_EQ(resolver.addresses(Deadline::in(milliseconds(20))).error().kind, ErrorKind::kTimeout);
  }
  hanging->set_value();  // the thread may end after its resolver
}

TEST(Resolver, AFailureIsNotTheEndOfWhatWasFound) {
  std::atomic<bool> fails{true};
  Resolver resolver([&]() -> Result<Addresses> {
    if (fails) return error(ErrorKind::kInvalid, "no");
    return one_address();
  });
  EXPECT_EQ(resolver.addresses(Deadline::never()).error().kind, ErrorKind::kInvalid);
  fails = false;
  const Addresses found = resolver.addresses(Deadline::never()).value();
  fails = true;
  EXPECT_EQ(resolver.addresses(Deadline::never()).value(), found);
}

TEST(Listener, NobodyThereIsDisconnected) {
  auto listener = listen_on(parse_endpoint("127.0.0.1:0").value()).value();
  const Endpoint gone = listener->local_endpoint();
  listener.reset();
  EXPECT_EQ(connect_to(gone, milliseconds(2000)).error().kind, ErrorKind::kDisconnected);
}

TEST(Listener, ShutDownEndsAccept) {
  auto listener = listen_on(parse_endpoint("127.0.0.1:0").value()).value();
  std::thread acceptor(
      [&] { EXPECT_EQ(listener->accept().error().kind, ErrorKind::kDisconnected); });
  listener->shut_down();
  acceptor.join();
}

TEST(Listener, AUnixSocketInUseIsKeptAndALeftOverOneReplaced) {
  const Endpoint endpoint = parse_endpoint("unix:" + socket_path() + "2").value();
  auto first = listen_on(endpoint).value();
  EXPECT_NE(listen_on(endpoint).error().message.find("is in use"), std::string::npos);
  first.reset();
  EXPECT_FALSE(std::filesystem::exists(endpoint.path));
  EXPECT_TRUE(listen_on(endpoint));
}

}  // namespace
}  // namespace outboard::wire
