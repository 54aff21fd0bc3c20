// SPDX-License-Identifier: Apache-2.0
#include "wire/client.h"

#include <gtest/gtest.h>
#include <future>

#include <condition_variable>
#include <thread>

#include "base/cursor.h"
#include "tests/wire/fake_server.h"

namespace outboard::wire {
namespace {

using std::chrono::milliseconds;

class VectorSink final : public OutputSink {
 public:
  Result<std::span<std::byte>> allocate(std::size_t, const TensorHeader& header) override {
    if (refuse) return error(ErrorKind::kInvalid, "no room");
    bytes.resize(header.data_bytes);
    return std::span<std::byte>(bytes);
  }
  Result<void> strings(std::size_t, const TensorHeader&,
                       std::span<const std::string_view> elements) override {
    words.assign(elements.begin(), elements.end());
    return {};
  }
  bool refuse = false;
  std::vector<std::byte> bytes;
  std::vector<std::string> words;
};

constexpr std::uint32_t kFirstOutput[] = {0};

struct EchoInput {
  explicit EchoInput(std::size_t count) : values(count, std::byte{7}) {
    tensor[0].header = {ElementType::kUint8, {static_cast<std::int64_t>(count)}, count};
    tensor[0].data = values;
  }
  std::vector<std::byte> values;
  InputTensor tensor[1];
};

class ClientTest : public ::testing::Test {
 protected:
  std::shared_ptr<RemoteSession> open() { return client.open({}, {}).value(); }
  FakeServer server;
  Client client{{}, server.client_options()};
};

TEST_F(ClientTest, ARunIsOneRoundTrip) {
  const auto session = open();
  const EchoInput input(100);
  VectorSink sink;
  const auto frames = std::pair(client.frames_sent(), client.frames_received());
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(session->run(kFirstOutput, input.tensor, sink));
  EXPECT_EQ(client.frames_sent() - frames.first, 10u);
  EXPECT_EQ(client.frames_received() - frames.second, 10u);
  EXPECT_EQ(sink.bytes, input.values);
  EXPECT_EQ(server.connections, 1);
  EXPECT_EQ(server.opens, 1);
}

TEST_F(ClientTest, TheAccountSaysWhereTheTimeWent) {
  const auto session = open();
  const EchoInput input(100);
  VectorSink sink;
  const RunAccount account = session->run(kFirstOutput, input.tensor, sink).value();
  EXPECT_EQ(account.server, (ServerTimes{1, 2, 3, 0}));
  EXPECT_GT(account.bytes_sent, 100u + kFrameHeaderBytes);
  EXPECT_GT(account.wait_ns, 0u);
}

TEST_F(ClientTest, StringsGoToTheSink) {
  const auto session = open();
  const std::string_view words[] = {"a", "", "ccc"};
  const std::string data = encode_strings(words);
  const InputTensor input[] = {{{ElementType::kString, {3}, data.size()}, as_byte_span(data)}};
  VectorSink sink;
  ASSERT_TRUE(session->run(kFirstOutput, input, sink));
  EXPECT_EQ(sink.words, (std::vector<std::string>{"a", "", "ccc"}));
}

TEST_F(ClientTest, ASinkThatRefusesLeavesTheConnectionInStep) {
  const auto session = open();
  const EchoInput input(100'000);
  VectorSink sink;
  sink.refuse = true;
  EXPECT_EQ(session->run(kFirstOutput, input.tensor, sink).error().message, "no room");
  sink.refuse = false;
  EXPECT_TRUE(session->run(kFirstOutput, input.tensor, sink));
  EXPECT_EQ(server.connections, 1);
}

TEST_F(ClientTest, ConcurrentRunsTakeAConnectionEach) {
  const auto session = open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      const EchoInput input(1000);
      VectorSink sink;
      for (int i = 0; i < 50; ++i) EXPECT_TRUE(session->run(kFirstOutput, input.tensor, sink));
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(server.runs, 400);
  EXPECT_LE(server.connections, 8);
}

TEST_F(ClientTest, AnErrorOfTheEngineKeepsItsCodeAndTheConnection) {
  server.override_handler = [](Connection& c, const FrameHeader& h,
                               const std::string&) -> std::optional<bool> {
    if (h.kind != FrameKind::kRun) return std::nullopt;
    return c
        .send({.kind = FrameKind::kError, .request_id = h.request_id},
              encode(Error{ErrorKind::kEngine, "bad", 2}))
        .has_value();
  };
  const auto session = open();
  const EchoInput input(1);
  VectorSink sink;
  const Error e = session->run(kFirstOutput, input.tensor, sink).error();
  EXPECT_EQ(e.kind, ErrorKind::kEngine);
  EXPECT_EQ(e.native_code, 2);
  EXPECT_TRUE(client.ping());
  EXPECT_EQ(server.connections, 1);
}

TEST_F(ClientTest, HeartbeatsKeepALongRunAlive) {
  ClientOptions options = server.client_options();
  options.stall_timeout = milliseconds(500);  // so much may a busy machine be late
  Client patient({}, options);
  std::mutex mutex;
  std::condition_variable never;
  server.override_handler = [&](Connection& c, const FrameHeader& h,
                                const std::string&) -> std::optional<bool> {
    if (h.kind != FrameKind::kRun) return std::nullopt;
    for (int i = 0; i < 30; ++i) {  // 1.2 s in all, more than twice the stall timeout
      std::unique_lock lock(mutex);
      never.wait_for(lock, milliseconds(40));
      if (!c.send({.kind = FrameKind::kHeartbeat, .request_id = h.request_id},
                  encode(Heartbeat{1})))
        return false;
    }
    return std::nullopt;
  };
  const auto session = patient.open({}, {}).value();
  const EchoInput input(1);
  VectorSink sink;
  EXPECT_TRUE(session->run(kFirstOutput, input.tensor, sink));
}

TEST_F(ClientTest, ASilentServerIsATimeout) {
  ClientOptions options = server.client_options();
  options.stall_timeout = milliseconds(500);  // opening must not meet it on a busy machine
  Client impatient({}, options);
  server.override_handler = [](Connection&, const FrameHeader& h,
                               const std::string&) -> std::optional<bool> {
    if (h.kind != FrameKind::kRun) return std::nullopt;
    return true;  // never answers
  };
  const auto session = impatient.open({}, {}).value();
  const EchoInput input(1);
  VectorSink sink;
  EXPECT_EQ(session->run(kFirstOutput, input.tensor, sink).error().kind, ErrorKind::kTimeout);
}

TEST_F(ClientTest, AServerThatDiesInMidRunMayHaveExecutedIt) {
  server.override_handler = [](Connection&, const FrameHeader& h,
                               const std::string&) -> std::optional<bool> {
    if (h.kind != FrameKind::kRun) return std::nullopt;
    return false;
  };
  const auto session = open();
  const EchoInput input(1);
  VectorSink sink;
  EXPECT_EQ(session->run(kFirstOutput, input.tensor, sink).error().kind, ErrorKind::kMaybeExecuted);
}

TEST_F(ClientTest, AConnectionThatDiedWhileIdleIsReplacedUnnoticed) {
  const auto session = open();
  server.drop_all();
  const EchoInput input(1);
  VectorSink sink;
  EXPECT_TRUE(session->run(kFirstOutput, input.tensor, sink));
  EXPECT_EQ(server.connections, 2);
  EXPECT_EQ(server.opens, 2);  // the session was opened anew on the new connection
}

TEST_F(ClientTest, CancelReachesTheServer) {
  std::mutex mutex;
  std::condition_variable changed;
  bool running = false;
  std::uint64_t run_id = 0;
  server.override_handler = [&](Connection& c, const FrameHeader& h,
                                const std::string&) -> std::optional<bool> {
    if (h.kind == FrameKind::kRun) {
      const std::lock_guard lock(mutex);
      running = true;
      run_id = h.request_id;
      changed.notify_all();
      return true;  // answered when the cancel comes
    }
    if (h.kind != FrameKind::kCancel) return std::nullopt;
    EXPECT_EQ(h.request_id, run_id);
    return c
        .send({.kind = FrameKind::kError, .request_id = h.request_id},
              encode(Error{ErrorKind::kCancelled, "stopped", 0}))
        .has_value();
  };
  const auto session = open();
  CancelToken token;
  std::thread canceller([&] {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return running; });
    token.cancel();
  });
  const EchoInput input(1);
  VectorSink sink;
  EXPECT_EQ(session->run(kFirstOutput, input.tensor, sink, &token).error().kind,
            ErrorKind::kCancelled);
  canceller.join();
  EXPECT_EQ(session->run(kFirstOutput, input.tensor, sink, &token).error().kind,
            ErrorKind::kCancelled);
  token.reset();
  server.override_handler = nullptr;
  EXPECT_TRUE(session->run(kFirstOutput, input.tensor, sink, &token));
}

TEST_F(ClientTest, ACancelDoesNotWaitForAServerThatCannotStop) {
  std::promise<void> running;
  server.override_handler = [&](Connection&, const FrameHeader& h,
                                const std::string&) -> std::optional<bool> {
    if (h.kind == FrameKind::kRun) running.set_value();
    return h.kind == FrameKind::kRun || h.kind == FrameKind::kCancel
               ? std::optional<bool>(true)  // and never answers
               : std::nullopt;
  };
  const auto session = open();
  CancelToken token;
  std::thread canceller([&] {
    running.get_future().wait();
    token.cancel();
  });
  const EchoInput input(1);
  VectorSink sink;
  EXPECT_EQ(session->run(kFirstOutput, input.tensor, sink, &token).error().kind,
            ErrorKind::kCancelled);
  canceller.join();
}

TEST_F(ClientTest, ASessionThatGoesIsClosedOnTheServer) {
  open().reset();
  ASSERT_TRUE(client.ping());  // the close travels before it on the same connection
  EXPECT_EQ(server.closes, 1);
}

TEST_F(ClientTest, AnUploadThatBrokeOffResumes) {
  const std::string model(9'000'000, 'm');
  const auto package = ModelPackage::from_bytes(as_byte_span(model), Spool::kMemory).value();
  std::uint64_t calls = 0;
  const auto stop_after_two = [&](std::uint64_t, std::uint64_t) { return ++calls <= 2; };
  EXPECT_EQ(client.upload(*package, stop_after_two).error().kind, ErrorKind::kCancelled);
  const auto state = client.query(package->manifest()).value();
  EXPECT_FALSE(state.complete);
  EXPECT_EQ(state.have_bytes[0], 2 * limits::kUploadChunkBytes);
  std::uint64_t first_done = 0;
  ASSERT_TRUE(client.upload(*package, [&](std::uint64_t done, std::uint64_t total) {
    if (first_done == 0) first_done = done;
    EXPECT_EQ(total, model.size());
    return true;
  }));
  EXPECT_EQ(first_done, 2 * limits::kUploadChunkBytes);
  EXPECT_TRUE(client.query(package->manifest()).value().complete);
  EXPECT_EQ(server.files[package->manifest().files[0].sha256.hex()], model);
}

TEST(Client, NobodyThereIsDisconnected) {
  ClientOptions options;
  options.connect = []() -> Result<std::unique_ptr<Stream>> {
    return error(ErrorKind::kDisconnected, "nobody");
  };
  Client client({}, options);
  EXPECT_EQ(client.hello().error().kind, ErrorKind::kDisconnected);
}

}  // namespace
}  // namespace outboard::wire
