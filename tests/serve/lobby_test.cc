// SPDX-License-Identifier: Apache-2.0
// Connections that have proven nothing: what they cost, and that they keep nobody out. A server
// with the fake engine behind TLS on a real socket.
#include "serve/lobby.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <thread>

#include "base/files.h"
#include "base/memory.h"
#include "serve/tokens.h"
#include "tests/serve/support.h"
#include "wire/access.h"
#include "wire/client.h"

namespace outboard::serve {
namespace {

using namespace std::chrono_literals;

class LobbyTest : public testing::Test {
 protected:
  void SetUp() override {
    security.listen = {*wire::parse_endpoint("127.0.0.1:0")};
    security.identity = wire::make_identity().value();
    security.tokens_path = folder / "tokens.json";
    token = add_token(security.tokens_path, {"alice", 1, {}}, now_s(), 0).value();
    start(10min);  // however busy the machine is
  }
  void start(std::chrono::milliseconds time_to_prove) {
    server.reset();
    security.time_to_prove = time_to_prove;
    ServerOptions options;
    options.store.folder = folder / "store";
    options.security = security;
    auto engine = std::make_unique<FakeEngine>();
    auto started = Server::start(std::move(engine), std::move(options));
    ASSERT_TRUE(started) << started.error().message;
    server = std::move(*started);
  }
  wire::Access access(const std::string& shown) const {
    wire::Access made(server->addresses().front());
    made.identity = wire::fingerprint_of(security.identity.certificate_pem).value();
    made.token = shown;
    return made;
  }
  static wire::ClientOptions patient() {
    wire::ClientOptions options;
    options.connect_timeout = options.stall_timeout = options.control_timeout = 60s;
    return options;
  }
  static Error refusal_of(const wire::Access& shown) {
    wire::Client client(shown, patient());
    const auto hello = client.hello();
    EXPECT_FALSE(hello);
    return hello ? Error{} : hello.error();
  }

  TemporaryFolder folder;
  Security security;
  std::string token;
  std::unique_ptr<Server> server;
};

TEST_F(LobbyTest, ATokenAdmits) {
  wire::Client client(access(token), patient());
  const auto hello = client.hello();
  ASSERT_TRUE(hello) << hello.error().message;
  ASSERT_FALSE(hello->features.empty());
  EXPECT_EQ(hello->features[0].number, wire::kFeatureAuthentication);
  EXPECT_EQ(hello->features[0].data, "alice");
  EXPECT_TRUE(client.ping(1000));
  EXPECT_NE(client.status()->find("\"tenant\":\"alice\""), std::string::npos);
  EXPECT_EQ(server->lobby().waiting(), 0u);
}

// One clear sentence for each, and none of them with a token in it.
TEST_F(LobbyTest, WhatDoesNotAdmitIsASentence) {
  const auto expect = [&](const wire::Access& shown, ErrorKind kind, const std::string& words) {
    const Error refusal = refusal_of(shown);
    EXPECT_EQ(refusal.kind, kind) << refusal.message;
    EXPECT_NE(refusal.message.find(words), std::string::npos) << refusal.message;
    if (!shown.token.empty()) {
      EXPECT_EQ(refusal.message.find(shown.token), std::string::npos);
    }
  };
  const std::string id = token.substr(0, 8);
  expect(access(""), ErrorKind::kRefused, "asks for a token");
  expect(access("wrong"), ErrorKind::kRefused, "not one of the server's");
  expect(access(id + ".wrong"), ErrorKind::kRefused, "not one of the server's");
  expect(access(token + "x"), ErrorKind::kRefused, "not one of the server's");
  const std::string late = add_token(security.tokens_path, {"bob", 1, {}}, 0, 1).value();
  expect(access(late), ErrorKind::kRefused, "expired at 1970-01-01 00:00:01 UTC");
  ASSERT_TRUE(revoke_token(security.tokens_path, id));
  expect(access(token), ErrorKind::kRefused, "was revoked");
  wire::Access impostor = access(late);
  impostor.identity = Sha256{};
  expect(impostor, ErrorKind::kRefused, "must be the one that is known");
  EXPECT_EQ(revoke_token(security.tokens_path, "00000000").error().kind, ErrorKind::kNotFound);
}

TEST_F(LobbyTest, ATokenThatIsRevokedEndsItsConnections) {
  wire::Client client(access(token), patient());
  ASSERT_TRUE(client.ping());
  ASSERT_TRUE(revoke_token(security.tokens_path, token.substr(0, 8)));
  while (server->connection_threads() > 0) std::this_thread::yield();
  EXPECT_EQ(client.ping().error().kind, ErrorKind::kRefused);
}

// The hello, the token, a session and a Run on a new connection leave with the last message of the
// handshake: what a client sends between its TCP handshake and the Run's result is two flights.
class CountedStream final : public wire::Stream {
 public:
  CountedStream(std::unique_ptr<wire::Stream> below, std::atomic<int>& writes)
      : below_(std::move(below)), writes_(writes) {}
  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    return below_->read_some(buffers);
  }
  Result<void> write_all(std::span<iovec> buffers) override {
    ++writes_;
    return below_->write_all(buffers);
  }
  void set_stall_timeout(std::chrono::milliseconds t) override { below_->set_stall_timeout(t); }
  void shut_down() override { below_->shut_down(); }
  Result<std::size_t> peek(std::span<std::byte> buffer) override { return below_->peek(buffer); }
  int poll_fd() const override { return below_->poll_fd(); }

 private:
  std::unique_ptr<wire::Stream> below_;
  std::atomic<int>& writes_;
};

class Sink final : public wire::OutputSink {
 public:
  Result<std::span<std::byte>> allocate(std::size_t, const wire::TensorHeader& header) override {
    bytes.resize(header.data_bytes);
    return std::span(bytes);
  }
  Result<void> strings(std::size_t, const wire::TensorHeader&,
                       std::span<const std::string_view>) override {
    return {};
  }
  std::vector<std::byte> bytes;
};

TEST_F(LobbyTest, ANewConnectionCostsOneRoundTripBeforeTheRunLeaves) {
  std::atomic<int> writes{0};
  const wire::Access shown = access(token);
  const auto context = wire::TlsContext::client({shown.identity, {}, {}}).value();
  wire::ClientOptions options = patient();
  options.connect = [&]() -> Result<std::unique_ptr<wire::Stream>> {
    OB_TRY(auto below, wire::connect_to(shown.endpoint, 5s));
    return wire::tls_connect(std::make_unique<CountedStream>(std::move(below), writes), context);
  };
  wire::Client client(shown, std::move(options));
  const std::string word = "echo";
  const auto package = [&] {
    std::ofstream(folder / "model") << word;
    return wire::ModelPackage::from_path(folder / "model").value();
  }();
  ASSERT_TRUE(client.upload(*package));
  const auto session = client.open(package->id(), {});
  ASSERT_TRUE(session) << session.error().message;

  client.drop_idle();
  writes = 0;
  const std::vector<float> x{1, 2, 3};
  const wire::InputTensor input{{.type = wire::ElementType::kFloat, .dims = {3}, .data_bytes = 12},
                                std::as_bytes(std::span(x))};
  const std::uint32_t output = 0;
  Sink sink;
  const auto account = (*session)->run(std::span(&output, 1), std::span(&input, 1), sink);
  ASSERT_TRUE(account) << account.error().message;
  EXPECT_EQ(sink.bytes.size(), 12u);
  EXPECT_EQ(writes, 2) << "the greeting; then all the rest at once";
  // On a connection that is there, one.
  ASSERT_TRUE((*session)->run(std::span(&output, 1), std::span(&input, 1), sink));
  EXPECT_EQ(writes, 3);
}

// ---- a crowd that proves nothing
// ---------------------------------------------------------------------------------------------

std::size_t trimmed_resident_bytes() {
  ::malloc_trim(0);
  return resident_bytes();
}

class Crowd {
 public:
  explicit Crowd(std::uint16_t port) : port_(port) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  ~Crowd() {
    for (const int fd : sockets_) ::close(fd);
  }
  bool join(std::string_view says) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    // From several addresses of the loopback range: one alone would run out of ports.
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + sockets_.size() / 5000);
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return false;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      return false;
    if (!says.empty()) (void)::send(fd, says.data(), says.size(), MSG_NOSIGNAL);
    sockets_.push_back(fd);
    return true;
  }
  std::size_t size() const { return sockets_.size(); }
  const std::vector<int>& sockets() const { return sockets_; }

 private:
  const std::uint16_t port_;
  std::vector<int> sockets_;
};

// A greeting as a client sends it.
std::string client_hello() {
  auto session =
      wire::TlsSession::make(wire::TlsContext::client({Sha256{}, {}, {}}).value()).value();
  EXPECT_FALSE(session->handshake().value());
  const auto& bytes = session->output();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST_F(LobbyTest, WhatAConnectionCostsBeforeItsTokenIsProven) {
  constexpr std::size_t kCount = 1000;
  const std::string hello = client_hello();
  for (const bool halfway : {false, true}) {
    Crowd crowd(server->addresses().front().port);
    ASSERT_TRUE(crowd.join(hello)) << "the first one pays for what all share";
    while (server->lobby().waiting() != 1) std::this_thread::yield();
    const std::size_t before = trimmed_resident_bytes();
    for (std::size_t i = 0; i < kCount; ++i)
      ASSERT_TRUE(crowd.join(halfway ? hello : hello.substr(0, 100)));
    while (server->lobby().waiting() != kCount + 1) std::this_thread::yield();
    // A client that comes after them has been answered after them.
    wire::Client client(access(token), patient());
    ASSERT_TRUE(client.ping());
    const std::size_t each =
        (trimmed_resident_bytes() - std::min(before, trimmed_resident_bytes())) / kCount;
    std::printf("%s: %.1f KiB for each connection\n",
                halfway ? "in mid-handshake" : "in mid-greeting", static_cast<double>(each) / 1024);
    EXPECT_LT(each, 64u << 10);
    EXPECT_EQ(server->connection_threads(), 1u) << "no thread before a token";
  }
}

TEST_F(LobbyTest, TenThousandHalfOpenConnectionsKeepNobodyOut) {
  constexpr std::size_t kCount = 10'000;
  const std::string hello = client_hello();
  Crowd crowd(server->addresses().front().port);
  std::chrono::nanoseconds slowest{0};
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(crowd.join(i % 3 == 0 ? "" : i % 3 == 1 ? hello.substr(0, 60) : hello)) << i;
    if (i % 1000 != 999) continue;
    // Both ends, and a thousand greetings at once, on one machine that may do other work too.
    wire::Client client(access(token), patient());
    const auto start = std::chrono::steady_clock::now();
    const auto answered = client.hello();
    ASSERT_TRUE(answered) << "after " << i << ": " << answered.error().message;
    slowest = std::max<std::chrono::nanoseconds>(slowest, std::chrono::steady_clock::now() - start);
  }
  std::printf("slowest of 10 clients with a token, beside %zu: %.1f ms\n", crowd.size(),
              static_cast<double>(slowest.count()) / 1e6);
  EXPECT_LE(server->lobby().waiting(), 4096u);
}

TEST_F(LobbyTest, WhoProvesNothingInTimeIsClosedWhateverItSays) {
  EXPECT_LE(Security().time_to_prove, 5s);
  start(30ms);
  const std::string hello = client_hello();
  for (const std::string_view says :
       {std::string_view(), std::string_view(hello).substr(0, 60), std::string_view(hello)}) {
    Crowd crowd(server->addresses().front().port);
    ASSERT_TRUE(crowd.join(says));
    const int fd = crowd.sockets().front();
    timeval moment{.tv_sec = 0, .tv_usec = 1000};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment);
    std::array<char, 4096> answer;
    // It goes on with a byte now and then, which wins it no time.
    for (ssize_t n = 1; n != 0 && !(n < 0 && errno == ECONNRESET);) {
      if (!says.empty() && says.size() < hello.size()) (void)::send(fd, "\x00", 1, MSG_NOSIGNAL);
      n = ::recv(fd, answer.data(), answer.size(), 0);
    }
  }
  EXPECT_GE(server->lobby().turned_away(), 3u);
}

TEST_F(LobbyTest, NonsenseIsTurnedAway) {
  Crowd crowd(server->addresses().front().port);
  const std::uint64_t before = server->lobby().turned_away();
  const std::string claims_much("\x16\x03\x01\x00\x04\x01\x01\xff\xff", 9);
  for (const std::string& nonsense :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("OTB1") + std::string(60, '\0'),
        claims_much, std::string(64, '\xff')})
    ASSERT_TRUE(crowd.join(nonsense));
  while (server->lobby().turned_away() < before + 4) std::this_thread::yield();
  wire::Client client(access(token), patient());
  EXPECT_TRUE(client.ping());
}

}  // namespace
}  // namespace outboard::serve
