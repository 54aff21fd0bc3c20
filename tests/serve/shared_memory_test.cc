// SPDX-License-Identifier: Apache-2.0
// Tensors by shared memory between a client and a server over a unix socket: that they are not
// copied, that everything still works without, and what a hostile client can do (nothing).
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>
#include <fstream>
#include <numeric>
#include <thread>

#include "tests/serve/support.h"
#include "wire/client.h"
#include "wire/transport/endpoint.h"
#include "wire/transport/socket.h"

namespace outboard::serve {
namespace {

using wire::ElementType;
using wire::FrameKind;

constexpr std::size_t kFixedElements = 65536;  // of the fake engine's models of a fixed shape

std::vector<float> counting(std::size_t count, float first = 0) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

struct Output final : wire::OutputSink {
  Result<std::span<std::byte>> allocate(std::size_t, const wire::TensorHeader& header) override {
    was_shared = header.shared_offset.has_value();
    values.assign(header.data_bytes / sizeof(float), -1.0f);
    return std::as_writable_bytes(std::span(values));
  }
  Result<void> strings(std::size_t, const wire::TensorHeader&,
                       std::span<const std::string_view>) override {
    return error(ErrorKind::kInternal, "no strings here");
  }
  std::vector<float> values;
  bool was_shared = false;
};

// A server on a unix socket, and a client of it.
class SharedMemoryServer : public testing::Test {
 protected:
  void start(Settings settings = {}) {
    auto engine = std::make_unique<FakeEngine>();
    stage_ = engine->stage;
    ServerOptions options;
    options.listen = {*wire::parse_endpoint("unix:" + (folder_ / "socket"))};
    options.store = {.folder = folder_ / "store", .limit_bytes = 1u << 20};
    options.settings = std::move(settings);
    auto started = Server::start(std::move(engine), std::move(options));
    ASSERT_TRUE(started) << started.error().message;
    server_ = std::move(*started);
  }
  std::unique_ptr<wire::Client> client(wire::ClientOptions options = {}) {
    return std::make_unique<wire::Client>(server_->addresses()[0], std::move(options));
  }
  std::unique_ptr<RawClient> raw_client() {
    auto stream = wire::connect_to(server_->addresses()[0], std::chrono::seconds(5));
    EXPECT_TRUE(stream) << stream.error().message;
    return std::make_unique<RawClient>(std::move(*stream));
  }
  // With the fake engine's model of that word.
  static std::shared_ptr<wire::RemoteSession> open(wire::Client& client, const std::string& word) {
    const auto package = wire::ModelPackage::from_bytes(bytes_of(word), wire::Spool::kMemory);
    EXPECT_TRUE(package);
    EXPECT_TRUE(client.upload(**package));
    auto session = client.open((*package)->id(), {});
    EXPECT_TRUE(session) << session.error().message;
    return *session;
  }
  static Result<wire::RunAccount> run(wire::RemoteSession& session, const std::vector<float>& x,
                                      Output& output) {
    const std::vector<std::uint32_t> outputs{0};
    const wire::InputTensor input{
        {ElementType::kFloat, {static_cast<std::int64_t>(x.size())}, x.size() * sizeof(float)},
        std::as_bytes(std::span(x))};
    return session.run(outputs, std::span(&input, 1), output);
  }
  std::uint64_t sharing() const {
    return server_->shared().statistics.shared_memory_connections.load();
  }
  // Waits until every connection's thread has ended.
  void wait_for_no_connections() const {
    while (server_->connection_threads() > 0) std::this_thread::yield();
  }

  TemporaryFolder folder_;
  std::shared_ptr<FakeEngine::Stage> stage_;
  std::unique_ptr<Server> server_;
};

// The line of /proc/self/maps that has the address. Server and client are one process here, so the
// mapping's rights tell whose it is: the reader has no right to write.
std::string mapping_of(const void* address) {
  std::ifstream maps("/proc/self/maps");
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  for (std::string line; std::getline(maps, line);) {
    char* end = nullptr;
    const std::uintptr_t from = std::strtoull(line.c_str(), &end, 16);
    const std::uintptr_t to = std::strtoull(end + 1, nullptr, 16);
    if (from <= wanted && wanted < to) return line;
  }
  return {};
}

TEST_F(SharedMemoryServer, TheEngineReadsAndWritesInPlace) {
  start();
  const auto c = client();
  const auto session = open(*c, "fixed");
  for (int i = 0; i < 3; ++i) {
    Output output;
    const auto x = counting(kFixedElements, static_cast<float>(i));
    const auto account = run(*session, x, output);
    ASSERT_TRUE(account) << account.error().message;
    EXPECT_EQ(output.values, x);
    EXPECT_TRUE(output.was_shared);
    EXPECT_GT(account->bytes_sent, x.size() * sizeof(float)) << "counted though not in the frame";
    EXPECT_GT(account->bytes_received, x.size() * sizeof(float));
    const std::string in = mapping_of(stage_->last_input), out = mapping_of(stage_->last_output);
    EXPECT_NE(in.find("r--s"), std::string::npos) << in;
    EXPECT_NE(in.find("memfd:outboard"), std::string::npos) << in;
    EXPECT_NE(out.find("rw-s"), std::string::npos) << out;
    EXPECT_NE(out.find("memfd:outboard"), std::string::npos) << out;
  }
  EXPECT_EQ(c->transport(), "shared memory");
  EXPECT_LT(server_->shared().statistics.bytes_received.load(), 10'000u) << "of the sockets";
  EXPECT_NE(server_->status().find("\"shared_memory\":{\"connections\":"), std::string::npos);
}

TEST_F(SharedMemoryServer, OutputsOfUnknownShapeAreSharedFromTheSecondRunOn) {
  start();
  const auto c = client();
  const auto session = open(*c, "echo");
  const auto x = counting(1'000'000);
  for (int i = 0; i < 3; ++i) {
    Output output;
    ASSERT_TRUE(run(*session, x, output));
    EXPECT_EQ(output.values, x);
    EXPECT_EQ(output.was_shared, i > 0);
  }
}

TEST_F(SharedMemoryServer, AnOutputThatIsNotOfItsDeclaredShapeStillComes) {
  start();
  const auto c = client();
  const auto session = open(*c, "lying");
  for (const std::size_t size : {100'000u, 65'536u, 7u, 0u}) {
    Output output;
    const auto ran = run(*session, counting(size), output);
    ASSERT_TRUE(ran) << ran.error().message;
    EXPECT_EQ(output.values, counting(size));
  }
}

TEST_F(SharedMemoryServer, SmallTensorsGoInTheFrame) {
  start();
  const auto c = client();
  const auto session = open(*c, "echo");
  Output output;
  ASSERT_TRUE(run(*session, counting(10), output));
  EXPECT_EQ(output.values, counting(10));
  EXPECT_FALSE(output.was_shared);
}

TEST_F(SharedMemoryServer, DeclinedByEitherSideTheSocketCarriesThem) {
  start({.shared_memory = false});
  auto c = client();
  Output output;
  ASSERT_TRUE(run(*open(*c, "fixed"), counting(kFixedElements), output));
  EXPECT_EQ(output.values, counting(kFixedElements));
  EXPECT_FALSE(output.was_shared);
  EXPECT_EQ(c->transport(), "unix");

  server_.reset();
  start();
  wire::ClientOptions without;
  without.shared_memory = false;
  c = client(without);
  ASSERT_TRUE(run(*open(*c, "fixed"), counting(kFixedElements), output));
  EXPECT_FALSE(output.was_shared);
  EXPECT_EQ(sharing(), 0u);
}

TEST_F(SharedMemoryServer, BeyondTheServersLimitTensorsGoInTheFrame) {
  start({.max_shared_bytes = 2 * wire::RegionSizes::kLeastBytes});
  const auto c = client();
  const auto session = open(*c, "fixed");
  for (int i = 0; i < 2; ++i) {
    Output output;
    ASSERT_TRUE(run(*session, counting(kFixedElements), output));
    EXPECT_EQ(output.values, counting(kFixedElements));
    EXPECT_FALSE(output.was_shared);
  }
}

// A proxy between two unix sockets carries bytes and loses descriptors.
class Proxy {
 public:
  explicit Proxy(const wire::Endpoint& server, bool keeps_requests) {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    client_end = wire::make_socket_stream(fds[0]);
    inner_ = wire::make_socket_stream(fds[1]);
    outer_ = wire::connect_to(server, std::chrono::seconds(5)).value();
    there_ = std::thread([this, keeps_requests] { carry(*inner_, *outer_, keeps_requests); });
    back_ = std::thread([this] { carry(*outer_, *inner_, false); });
  }
  ~Proxy() {
    inner_->shut_down();
    outer_->shut_down();
    there_.join();
    back_.join();
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;
  std::unique_ptr<wire::Stream> client_end;

 private:
  static void carry(wire::Stream& from, wire::Stream& to, bool with_descriptors) {
    std::vector<std::byte> buffer(65536);
    for (;;) {
      const iovec space{buffer.data(), buffer.size()};
      const auto n = from.read_some(std::span(&space, 1));
      iovec part{buffer.data(), n.value_or(0)};
      const auto fd = n ? from.descriptors()->take_descriptor() : wire::FileDescriptor();
      const bool sent = n && (fd && with_descriptors
                                  ? to.descriptors()->write_all_with(std::span(&part, 1), fd.get())
                                  : to.write_all(std::span(&part, 1)));
      if (!sent) return to.shut_down();
    }
  }
  std::unique_ptr<wire::Stream> inner_, outer_;
  std::thread there_, back_;
};

class SharedMemoryProxy : public SharedMemoryServer, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Loses, SharedMemoryProxy, testing::Values(false, true),
                         [](const auto& info) { return info.param ? "Replies" : "Both"; });

TEST_P(SharedMemoryProxy, FallsBackToTheSocket) {
  start();
  std::vector<std::unique_ptr<Proxy>> proxies;
  wire::ClientOptions options;
  options.connect = [&]() -> Result<std::unique_ptr<wire::Stream>> {
    proxies.push_back(std::make_unique<Proxy>(server_->addresses()[0], GetParam()));
    return std::move(proxies.back()->client_end);
  };
  {
    const auto c = client(options);
    const auto session = open(*c, "fixed");
    Output output;
    const auto ran = run(*session, counting(kFixedElements), output);
    ASSERT_TRUE(ran) << ran.error().message;
    EXPECT_EQ(output.values, counting(kFixedElements));
    EXPECT_FALSE(output.was_shared);
    EXPECT_EQ(c->transport(), "unix");
  }
  proxies.clear();
}

TEST_F(SharedMemoryServer, NothingIsLeftWhenClientsGo) {
  start();
  {
    const auto c = client();
    const auto session = open(*c, "fixed");
    Output output;
    ASSERT_TRUE(run(*session, counting(kFixedElements), output));
    EXPECT_GT(server_->shared().shared_budget.own.used_bytes(), 0u);
  }
  // One that is killed in the middle of a Run.
  const pid_t child = ::fork();
  if (child == 0) {
    const auto c = client();
    Output output;
    const auto session = open(*c, "block");
    (void)run(*session, counting(kFixedElements), output);
    ::_exit(0);
  }
  stage_->wait_for_running(1);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  wait_for_no_connections();
  EXPECT_EQ(server_->shared().shared_budget.own.used_bytes(), 0u);
  EXPECT_EQ(server_->shared().shared_budget.peers.used_bytes(), 0u);
  EXPECT_EQ(sharing(), 0u);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    EXPECT_EQ(line.find("memfd:outboard"), std::string::npos) << line;
}

TEST_F(SharedMemoryServer, AServerThatGoesFailsTheRunAndLeavesNothing) {
  start();
  const auto c = client();
  const auto session = open(*c, "block");
  std::thread gone([&] {
    stage_->wait_for_running(1);
    server_.reset();
  });
  Output output;
  const auto ran = run(*session, counting(kFixedElements), output);
  gone.join();
  ASSERT_FALSE(ran);
}

TEST_F(SharedMemoryServer, ChildrenThatForkHaveConnectionsOfTheirOwn) {
  start();
  const auto c = client();
  const auto session = open(*c, "fixed");
  Output output;
  ASSERT_TRUE(run(*session, counting(kFixedElements), output));
  const pid_t child = ::fork();
  if (child == 0) {
    const auto mine = client();
    Output there;
    const auto x = counting(kFixedElements, 5);
    const bool same = run(*open(*mine, "fixed"), x, there) && there.values == x && there.was_shared;
    ::_exit(same ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_TRUE(run(*session, counting(kFixedElements, 9), output));
  EXPECT_EQ(output.values, counting(kFixedElements, 9)) << "untouched by the child";
}

// ---- hostile clients --------------------------------------------------------------------------

// A client that has agreed on shared memory, and may say anything.
struct Hostile {
  explicit Hostile(std::unique_ptr<RawClient> client)
      : raw(std::move(client)), link(wire::SharedLink::make(budget).value()) {
    const wire::Hello hello{"test", "id", {{wire::kFeatureSharedMemory, link->feature_data()}}};
    EXPECT_TRUE(raw->connection.send_with({.kind = FrameKind::kHello, .request_id = 1},
                                          wire::encode(hello), link->descriptor()));
    link->descriptor_sent();
    const auto reply = raw->receive();
    EXPECT_TRUE(reply);
    const auto decoded = wire::decode_hello_reply(bytes_of(*reply));
    EXPECT_TRUE(decoded && !decoded->features.empty()) << "it was declined";
    raw->upload({{"model", "echo"}});
    EXPECT_TRUE(raw->open(1, {{"model", "echo"}}));
  }
  static std::string run_at(std::uint64_t offset, std::int64_t elements) {
    wire::RunRequest request{1, {0}, {{ElementType::kFloat, {elements}, 0}}};
    request.inputs[0].data_bytes = static_cast<std::uint64_t>(elements) * sizeof(float);
    request.inputs[0].shared_offset = offset;
    return wire::encode(request);
  }
  wire::SharedBudget budget;
  std::unique_ptr<RawClient> raw;
  std::unique_ptr<wire::SharedLink> link;
};

TEST_F(SharedMemoryServer, OffsetsBeyondTheMemoryEndThatConnectionAlone) {
  start();
  const auto witness = client();
  const auto session = open(*witness, "fixed");
  std::uint64_t bad = 0;
  for (const std::string& run :
       {Hostile::run_at(0, 1 << 20), Hostile::run_at(1, 1), Hostile::run_at(~std::uint64_t{63}, 64),
        Hostile::run_at(std::uint64_t{1} << 40, 1)}) {
    Hostile hostile(raw_client());
    const auto reply = hostile.raw->ask(FrameKind::kRun, run);
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().kind, ErrorKind::kInvalid) << reply.error().message;
    EXPECT_EQ(server_->shared().statistics.bad_connections.load(), ++bad) << "and ends it";
    Output output;
    ASSERT_TRUE(this->run(*session, counting(kFixedElements), output));
  }
}

TEST_F(SharedMemoryServer, SharedTensorsThatWereNotAgreedOnEndTheConnection) {
  start();
  std::uint64_t bad = 0;
  for (const FrameKind kind : {FrameKind::kRun, FrameKind::kSharedRegion}) {
    const auto raw = raw_client();
    raw->hello();
    raw->upload({{"model", "echo"}});
    ASSERT_TRUE(raw->open(1, {{"model", "echo"}}));
    const auto reply = raw->ask(
        kind, kind == FrameKind::kRun ? Hostile::run_at(0, 4) : wire::encode_shared_region(4096));
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(server_->shared().statistics.bad_connections.load(), ++bad) << "and ends it";
  }
}

TEST_F(SharedMemoryServer, AHandshakeWithoutADescriptorIsDeclined) {
  start();
  const auto raw = raw_client();
  const wire::Hello hello{
      "test", "id", {{wire::kFeatureSharedMemory, wire::encode_shared_region(65536)}}};
  const auto reply = raw->ask(FrameKind::kHello, wire::encode(hello));
  ASSERT_TRUE(reply);
  EXPECT_TRUE(wire::decode_hello_reply(bytes_of(*reply))->features.empty());
}

// The memory changes all the time while Runs read it: whatever comes back is data of the right
// size, and the headers, which travel by the socket, are what was sent.
TEST_F(SharedMemoryServer, MemoryThatChangesWhileItIsReadIsOnlyData) {
  start();
  Hostile hostile(raw_client());
  ASSERT_TRUE(hostile.link->begin(hostile.raw->connection, 0));
  const auto place = hostile.link->place(60'000);
  ASSERT_TRUE(place);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (unsigned char value = 0; !stop; ++value)
      for (std::byte& byte : place->bytes)
        std::atomic_ref<std::byte>(byte).store(std::byte{value}, std::memory_order_relaxed);
  });
  for (int i = 0; i < 200; ++i) {
    const auto reply = hostile.raw->ask(FrameKind::kRun, Hostile::run_at(place->offset, 1000));
    ASSERT_TRUE(reply) << reply.error().message;
    ASSERT_EQ(hostile.raw->kind, FrameKind::kRunResult);
    std::uint32_t record_bytes = 0;
    std::memcpy(&record_bytes, reply->data(), sizeof record_bytes);
    const auto result = wire::decode_run_result(bytes_of(reply->substr(0, record_bytes)));
    ASSERT_TRUE(result);
    ASSERT_EQ(result->outputs[0].dims, std::vector<std::int64_t>{1000});
    ASSERT_EQ(reply->size() - record_bytes, 4000u);
  }
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace outboard::serve
