// SPDX-License-Identifier: Apache-2.0
// The server with the fake engine, over the in-process pair and over real sockets.
#include "serve/server.h"

#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/limits.h"
#include "tests/serve/support.h"
#include "wire/transport/endpoint.h"

namespace outboard::serve {
namespace {

using wire::FrameKind;
using namespace std::chrono_literals;

std::vector<float> floats_of(const std::string& reply) {
  std::uint32_t record_bytes = 0;
  std::memcpy(&record_bytes, reply.data(), sizeof record_bytes);
  std::vector<float> values((reply.size() - record_bytes) / sizeof(float));
  if (!values.empty())
    std::memcpy(values.data(), reply.data() + record_bytes, values.size() * sizeof(float));
  return values;
}

TEST(Server, AnswersARunWithItsTimes) {
  FakeServer fake;
  const auto client = fake.client_with("echo");
  const std::vector<float> x{1, 2, 3};
  const auto reply = client->ask(FrameKind::kRun, RawClient::run(1, x));
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(client->kind, FrameKind::kRunResult);
  EXPECT_EQ(client->answered, client->request);
  EXPECT_EQ(floats_of(*reply), x);
  std::uint32_t record_bytes = 0;
  std::memcpy(&record_bytes, reply->data(), sizeof record_bytes);
  const auto result = wire::decode_run_result(bytes_of(reply->substr(0, record_bytes)));
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_GT(result->times.receive_ns, 0u);
  EXPECT_GT(result->times.compute_ns, 0u);
  EXPECT_EQ(result->times.queue_depth, 0u);
}

TEST(Server, EmptyTensorsToo) {
  FakeServer fake;
  const auto client = fake.client_with("echo");
  const auto reply = client->ask(FrameKind::kRun, RawClient::run(1, {}));
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_TRUE(floats_of(*reply).empty());
}

TEST(Server, PingsAndTheHandshake) {
  FakeServer fake;
  auto client = std::make_unique<RawClient>(fake.connect());
  const auto payload = client->ask(
      FrameKind::kHello, wire::encode(wire::Hello{"test", "id", {{.number = 999, .data = "x"}}}));
  ASSERT_TRUE(payload);
  const auto reply = wire::decode_hello_reply(bytes_of(*payload));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->engine, "fake 1.0");
  EXPECT_EQ(reply->device, "cpu");
  EXPECT_EQ(reply->heartbeat_ms, 200u);
  EXPECT_TRUE(reply->features.empty()) << "what it does not know it declines";
  EXPECT_EQ(*client->ask(FrameKind::kPing, "anything"), "anything");
  EXPECT_EQ(client->kind, FrameKind::kPong);
}

TEST(Server, ErrorsOfARequestLeaveTheConnectionAlive) {
  FakeServer fake;
  const auto client = fake.client_with("echo");
  const auto kind_of = [&](FrameKind kind, const std::string& payload) {
    const auto reply = client->ask(kind, payload);
    return reply ? std::optional<ErrorKind>() : reply.error().kind;
  };
  EXPECT_EQ(kind_of(static_cast<FrameKind>(200), "what is this"), ErrorKind::kUnimplemented);
  EXPECT_EQ(kind_of(FrameKind::kRunResult, "what is this"), ErrorKind::kUnimplemented);
  EXPECT_EQ(kind_of(FrameKind::kRun, RawClient::run(77, {1})), ErrorKind::kNotFound);
  // Two dimensions where there is one.
  wire::RunRequest request{1, {0}, {{wire::ElementType::kFloat, {1, 1}, 4}}};
  EXPECT_EQ(kind_of(FrameKind::kRun, wire::encode(request) + "1234"), ErrorKind::kInvalid);
  request.inputs[0] = {wire::ElementType::kInt32, {1}, 4};
  EXPECT_EQ(kind_of(FrameKind::kRun, wire::encode(request) + "1234"), ErrorKind::kInvalid);
  request.inputs.clear();
  EXPECT_EQ(kind_of(FrameKind::kRun, wire::encode(request)), ErrorKind::kInvalid);
  request = {1, {3}, {{wire::ElementType::kFloat, {1}, 4}}};
  EXPECT_EQ(kind_of(FrameKind::kRun, wire::encode(request) + "1234"), ErrorKind::kInvalid);
  request.outputs.clear();
  EXPECT_EQ(kind_of(FrameKind::kRun, wire::encode(request) + "1234"), ErrorKind::kInvalid);
  EXPECT_EQ(client->open(1, {{"model", "echo"}}).error().kind, ErrorKind::kInvalid)
      << "the handle is in use";
  EXPECT_EQ(client->open(2, {{"model", "never uploaded"}}).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(kind_of(FrameKind::kUploadChunk, RawClient::chunk("unasked", 0, "unasked")),
            ErrorKind::kInvalid);
  wire::SessionOptions options;
  options.config_entries["ep.context_enable"] = "1";
  EXPECT_EQ(client->open(2, {{"model", "echo"}}, options).error().kind, ErrorKind::kUnimplemented);
  EXPECT_TRUE(client->ask(FrameKind::kRun, RawClient::run(1, {1})));
}

TEST(Server, TheEnginesErrorsKeepTheirCode) {
  FakeServer fake;
  const auto client = fake.client_with("fail");
  auto reply = client->ask(FrameKind::kRun, RawClient::run(1, {1}));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::kEngine);
  EXPECT_EQ(reply.error().native_code, 6);
  client->upload({{"model", "reject"}});
  reply = client->open(2, {{"model", "reject"}});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().native_code, 7);
  EXPECT_EQ(fake.server->shared().statistics.failed_runs, 1u);
}

// What is no protocol at all is answered where it can be, and ends that connection alone.
TEST(Server, NonsenseEndsItsOwnConnectionOnly) {
  FakeServer fake;
  const auto witness = fake.client_with("echo");
  const auto ends = [&](FrameKind kind, const std::string& payload) {
    const auto client = fake.client();
    client->send(kind, payload);
    const auto reply = client->receive();
    EXPECT_FALSE(reply) << wire::name_of(kind);
    EXPECT_EQ(reply.error().kind, ErrorKind::kInvalid) << reply.error().message;
    EXPECT_EQ(client->answered, client->request);
  };
  ends(FrameKind::kModelQuery, "no manifest");
  ends(FrameKind::kSessionOpen, "no request");
  ends(FrameKind::kSessionClose, "no handle");
  ends(FrameKind::kUploadChunk, "too short");
  ends(FrameKind::kRun, "");
  ends(FrameKind::kRun, "\x01");
  ends(FrameKind::kRun, std::string("\xff\xff\xff\xff", 4));
  ends(FrameKind::kRun, std::string("\x02\0\0\0", 4));
  ends(FrameKind::kRun, RawClient::run(1, {1, 2, 3}) + "more than the tensors");
  std::string truncated = RawClient::run(1, {1, 2, 3});
  truncated.pop_back();
  ends(FrameKind::kRun, truncated);
  std::string huge = RawClient::run(1, {1});  // a rank beyond the limit
  huge[21 + 0] = '\x7f';
  ends(FrameKind::kRun, huge);
  EXPECT_TRUE(witness->ask(FrameKind::kRun, RawClient::run(1, {1})));
}

TEST(Server, AFrameThatIsNone) {
  FakeServer fake;
  for (const std::size_t damaged : {0u, 4u, 6u, 23u, 28u}) {  // magic, version, reserved, length
    const auto client = fake.client();
    auto bytes = wire::encode(wire::FrameHeader{.kind = FrameKind::kPing, .request_id = 9});
    bytes[damaged] = std::byte{0x7f};
    iovec part{bytes.data(), bytes.size()};
    ASSERT_TRUE(client->connection.stream().write_all(std::span(&part, 1)));
    const auto reply = client->receive();
    ASSERT_FALSE(reply) << damaged;
    EXPECT_EQ(reply.error().kind, ErrorKind::kInvalid) << damaged;
  }
}

TEST(Server, BeforeTheHandshakeNothingElseIsTaken) {
  FakeServer fake;
  RawClient client(fake.connect());
  const auto reply = client.ask(FrameKind::kStatus, "");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::kInvalid);
  EXPECT_TRUE(client.is_closed());
  RawClient garbled(fake.connect());
  EXPECT_EQ(garbled.ask(FrameKind::kHello, "no hello").error().kind, ErrorKind::kInvalid);
}

TEST(Server, AClientThatVanishesInMidFrameLeavesNothing) {
  FakeServer fake;
  const std::string run = RawClient::run(1, std::vector<float>(100'000, 1.0f));
  for (const std::size_t sent :
       {std::size_t{3}, std::size_t{16}, std::size_t{60}, run.size() / 2}) {
    const auto client = fake.client_with("echo");
    const auto header = wire::encode(
        wire::FrameHeader{.kind = FrameKind::kRun, .request_id = 99, .length = run.size()});
    std::array<iovec, 2> parts{{{const_cast<std::byte*>(header.data()), header.size()},
                                {const_cast<char*>(run.data()), sent}}};
    ASSERT_TRUE(client->connection.stream().write_all(parts));
    client->connection.stream().shut_down();
  }
  while (fake.server->connection_threads() > 0) std::this_thread::yield();
  const Statistics& statistics = fake.server->shared().statistics;
  EXPECT_EQ(statistics.in_flight, 0u);
  EXPECT_EQ(statistics.in_flight_bytes, 0u);
  EXPECT_EQ(statistics.connections, 0u);
  EXPECT_EQ(statistics.runs, 0u);
  // No session is in use any more: all may be closed.
  EXPECT_EQ(fake.stage->alive, 1);
}

TEST(Server, ACancelEndsTheRunAndTheConnectionLivesOn) {
  FakeServer fake;
  const auto client = fake.client_with("block");
  client->send(FrameKind::kRun, RawClient::run(1, {1}));
  const std::uint64_t run = client->request;
  fake.stage->wait_for_running(1);
  ASSERT_TRUE(client->connection.send({.kind = FrameKind::kCancel, .request_id = run}));
  const auto reply = client->receive();
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::kCancelled);
  EXPECT_EQ(client->answered, run);
  fake.stage->release(1);
  EXPECT_TRUE(client->ask(FrameKind::kRun, RawClient::run(1, {1}))) << "the next Run works";
  EXPECT_EQ(fake.server->shared().statistics.cancelled_runs, 1u);
}

TEST(Server, ACancelThatCameWithTheRunItself) {
  FakeServer fake;
  const auto client = fake.client_with("block");
  // Both in one write: the cancel lies in the server's receive buffer when the Run begins.
  const std::string run = RawClient::run(1, {1});
  const auto header = wire::encode(
      wire::FrameHeader{.kind = FrameKind::kRun, .request_id = 50, .length = run.size()});
  const auto cancel = wire::encode(wire::FrameHeader{.kind = FrameKind::kCancel, .request_id = 50});
  std::array<iovec, 3> parts{{{const_cast<std::byte*>(header.data()), header.size()},
                              {const_cast<char*>(run.data()), run.size()},
                              {const_cast<std::byte*>(cancel.data()), cancel.size()}}};
  ASSERT_TRUE(client->connection.stream().write_all(parts));
  EXPECT_EQ(client->receive().error().kind, ErrorKind::kCancelled);
}

TEST(Server, ACancelOfAnotherRequestIsNothing) {
  FakeServer fake;
  const auto client = fake.client_with("block");
  client->send(FrameKind::kRun, RawClient::run(1, {1}));
  fake.stage->wait_for_running(1);
  ASSERT_TRUE(client->connection.send({.kind = FrameKind::kCancel, .request_id = 12345}));
  // Long enough for the watcher to have looked: it has sent a heartbeat.
  while (client->heartbeats == 0) {
    const auto header = client->connection.receive_header();
    ASSERT_TRUE(header);
    ASSERT_EQ(header->kind, FrameKind::kHeartbeat);
    ASSERT_TRUE(client->connection.skip(header->length));
    ++client->heartbeats;
  }
  fake.stage->release(1);
  EXPECT_TRUE(client->receive());
}

TEST(Server, ACancelReachesARunThatWaits) {
  FakeServer fake({.slots = 1});
  const auto first = fake.client_with("block"), second = fake.client_with("block");
  first->send(FrameKind::kRun, RawClient::run(1, {1}));
  fake.stage->wait_for_running(1);
  second->send(FrameKind::kRun, RawClient::run(1, {2}));
  while (fake.server->shared().queue.depth() != 2) std::this_thread::yield();
  ASSERT_TRUE(second->connection.send({.kind = FrameKind::kCancel, .request_id = second->request}));
  EXPECT_EQ(second->receive().error().kind, ErrorKind::kCancelled);
  fake.stage->release(1);
  EXPECT_TRUE(first->receive());
}

TEST(Server, AClientThatGoesAwayEndsItsRun) {
  FakeServer fake;
  auto client = fake.client_with("block");
  client->send(FrameKind::kRun, RawClient::run(1, {1}));
  fake.stage->wait_for_running(1);
  client.reset();
  fake.stage->wait_for_running(0);
  while (fake.server->connection_threads() > 0) std::this_thread::yield();
}

TEST(Server, ADeadlineEndsTheRun) {
  FakeServer fake({.slots = 1});
  const auto first = fake.client_with("block"), second = fake.client_with("block");
  first->send(FrameKind::kRun, RawClient::run(1, {1}), 20'000);
  fake.stage->wait_for_running(1);
  second->send(FrameKind::kRun, RawClient::run(1, {1}), 1);  // while it waits
  EXPECT_EQ(second->receive().error().kind, ErrorKind::kTimeout);
  EXPECT_EQ(first->receive().error().kind, ErrorKind::kTimeout);  // while it computes
  fake.stage->release(1);
  EXPECT_TRUE(second->ask(FrameKind::kRun, RawClient::run(1, {1})));
}

TEST(Server, HeartbeatsComeWhileARunComputesAndWhileASessionOpens) {
  FakeServer fake;
  const auto client = fake.client_with("block");
  const auto beat = [&] {
    const auto header = client->connection.receive_header();
    ASSERT_TRUE(header);
    EXPECT_EQ(header->kind, FrameKind::kHeartbeat);
    EXPECT_EQ(header->request_id, client->request);
    const auto payload = client->connection.read_string(header->length);
    ASSERT_TRUE(wire::decode_heartbeat(bytes_of(*payload)));
  };
  client->send(FrameKind::kRun, RawClient::run(1, {1}));
  beat();
  beat();
  fake.stage->release(1);
  EXPECT_TRUE(client->receive());
  client->upload({{"model", "echo"}});
  fake.stage->hold_openings();
  client->send(FrameKind::kSessionOpen,
               wire::encode(wire::SessionOpen{2, manifest_of({{"model", "echo"}}).id(), {}}));
  beat();
  fake.stage->let_open();
  EXPECT_TRUE(client->receive());
}

TEST(Server, HeartbeatsComeWhileARequestIsStillOnItsWay) {
  FakeServer fake;
  const auto client = fake.client_with("echo");
  const std::string run = RawClient::run(1, {1, 2, 3});
  auto header = wire::encode(
      wire::FrameHeader{.kind = FrameKind::kRun, .request_id = 50, .length = run.size()});
  std::array<iovec, 2> first{
      {{header.data(), header.size()}, {const_cast<char*>(run.data()), run.size() - 5}}};
  ASSERT_TRUE(client->connection.stream().write_all(first));
  const auto beat = client->connection.receive_header();
  ASSERT_TRUE(beat);
  EXPECT_EQ(beat->kind, FrameKind::kHeartbeat);
  EXPECT_EQ(beat->request_id, 50u);
  ASSERT_TRUE(client->connection.skip(beat->length));
  iovec rest{const_cast<char*>(run.data()) + run.size() - 5, 5};
  ASSERT_TRUE(client->connection.stream().write_all(std::span(&rest, 1)));
  const auto reply = client->receive();
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(floats_of(*reply), (std::vector<float>{1, 2, 3}));
}

TEST(Server, NoMoreRunsComputeThanThereAreSlots) {
  FakeServer fake({.slots = 2});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(fake.client_with("block"));
    clients.back()->send(FrameKind::kRun, RawClient::run(1, {1}));
  }
  while (fake.server->shared().queue.depth() != 5) std::this_thread::yield();
  fake.stage->release(5);
  for (const auto& client : clients) EXPECT_TRUE(client->receive());
  EXPECT_EQ(fake.stage->most, 2);
}

TEST(Server, ADrainLetsRunsEndAndSendsNewOnesElsewhere) {
  FakeServer fake;
  const auto busy = fake.client_with("block"), idle = fake.client_with("echo");
  busy->send(FrameKind::kRun, RawClient::run(1, {1}));
  fake.stage->wait_for_running(1);
  EXPECT_FALSE(fake.server->drain(1ms));
  auto reply = idle->ask(FrameKind::kRun, RawClient::run(1, {1}));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::kOverloaded);
  EXPECT_NE(reply.error().message.find("draining"), std::string::npos);
  EXPECT_EQ(idle->open(2, {{"model", "echo"}}).error().kind, ErrorKind::kOverloaded);
  const auto status = nlohmann::json::parse(*idle->ask(FrameKind::kStatus, ""));
  EXPECT_EQ(status["draining"], true);
  EXPECT_EQ(status["runs_in_flight"], 1);
  auto drained = std::async(std::launch::async, [&] { return fake.server->drain(1h); });
  fake.stage->release(1);
  EXPECT_TRUE(busy->receive());
  EXPECT_TRUE(drained.get());
}

TEST(Server, AnUploadResumesOnAnotherConnection) {
  FakeServer fake;
  const std::string content = "echo " + std::string(1000, 'x');
  const auto manifest = manifest_of({{"model", content}});
  const auto have = [&](RawClient& client) {
    const auto reply = client.ask(FrameKind::kModelQuery, wire::encode(manifest));
    return wire::decode_model_state(bytes_of(*reply))->have_bytes[0];
  };
  {
    const auto client = fake.client();
    EXPECT_EQ(have(*client), 0u);
    client
        ->ask(FrameKind::kUploadChunk,
              RawClient::chunk(content, 0, std::string_view(content).substr(0, 300)))
        .value();
    // A second piece breaks off in mid-frame.
    const std::string piece =
        RawClient::chunk(content, 300, std::string_view(content).substr(300, 300));
    auto header = wire::encode(wire::FrameHeader{
        .kind = FrameKind::kUploadChunk, .request_id = 9, .length = piece.size()});
    std::array<iovec, 2> parts{
        {{header.data(), header.size()}, {const_cast<char*>(piece.data()), piece.size() - 1}}};
    ASSERT_TRUE(client->connection.stream().write_all(parts));
  }
  const auto client = fake.client();
  EXPECT_EQ(have(*client), 300u);
  client
      ->ask(FrameKind::kUploadChunk,
            RawClient::chunk(content, 300, std::string_view(content).substr(300)))
      .value();
  EXPECT_TRUE(client->open(1, {{"model", content}})) << "ready without another question";
}

TEST(Server, AFileThatAnotherClientFinishedMeanwhileIsDone) {
  FakeServer fake;
  const std::vector<NamedContent> files{{"model", "echo"}, {"w", "weights"}};
  const auto slow = fake.client(), quick = fake.client();
  const auto query = wire::encode(manifest_of(files));
  slow->ask(FrameKind::kModelQuery, query).value();
  quick->upload(files);
  for (const auto& [name, content] : files) {
    const auto reply = slow->ask(FrameKind::kUploadChunk, RawClient::chunk(content, 0, content));
    ASSERT_TRUE(reply) << reply.error().message;
    EXPECT_EQ(wire::decode_upload_state(bytes_of(*reply))->have_bytes, content.size());
  }
  EXPECT_TRUE(slow->open(1, files));
}

TEST(Server, AFullStoreClosesIdleSessionsFirst) {
  FakeServer fake({}, {}, /*store_limit=*/100);
  const std::string a = "echo " + std::string(60, 'a'), b = "echo " + std::string(60, 'b');
  {
    const auto client = fake.client();
    client->upload({{"model", a}});
    EXPECT_TRUE(client->open(1, {{"model", a}}));
    client->send(FrameKind::kModelQuery, wire::encode(manifest_of({{"model", b}})));
    EXPECT_TRUE(client->receive());
    const auto full = client->ask(FrameKind::kUploadChunk, RawClient::chunk(b, 0, b));
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().kind, ErrorKind::kOverloaded) << "its session is in use";
    client->send(FrameKind::kSessionClose, wire::encode_session_close(1));
    EXPECT_TRUE(client->ask(FrameKind::kUploadChunk, RawClient::chunk(b, 0, b)));
    EXPECT_TRUE(client->open(1, {{"model", b}}));
    EXPECT_EQ(client->open(2, {{"model", a}}).error().kind, ErrorKind::kNotFound);
  }
}

TEST(Server, BytesOfRunsUnderWayAreLimited) {
  FakeServer fake({.max_in_flight_bytes = 1000});
  const auto client = fake.client_with("block"), other = fake.client_with("block");
  EXPECT_EQ(client->ask(FrameKind::kRun, RawClient::run(1, std::vector<float>(300))).error().kind,
            ErrorKind::kRefused)
      << "can never be";
  client->send(FrameKind::kRun, RawClient::run(1, std::vector<float>(200)));
  fake.stage->wait_for_running(1);
  EXPECT_EQ(other->ask(FrameKind::kRun, RawClient::run(1, std::vector<float>(200))).error().kind,
            ErrorKind::kOverloaded)
      << "not now";
  fake.stage->release(2);
  EXPECT_TRUE(client->receive());
  while (fake.server->shared().statistics.in_flight_bytes != 0) std::this_thread::yield();
  EXPECT_TRUE(other->ask(FrameKind::kRun, RawClient::run(1, std::vector<float>(200))));
  // Given back once the reply has left.
  while (fake.server->shared().statistics.in_flight_bytes != 0) std::this_thread::yield();
}

TEST(Server, OneConnectionTooManyIsToldSo) {
  FakeServer fake({.max_connections = 2});
  const auto first = fake.client(), second = fake.client();
  RawClient third(fake.connect());
  const auto reply = third.ask(FrameKind::kHello, wire::encode(wire::Hello{"test", "id", {}}));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::kOverloaded);
  EXPECT_TRUE(first->ask(FrameKind::kPing, ""));
}

TEST(Server, SessionsEndWithTheirConnection) {
  FakeServer fake({}, {.idle_time = 0ns});
  auto client = fake.client_with("echo");
  EXPECT_EQ(fake.stage->alive, 1);
  client.reset();
  while (fake.stage->alive != 0) std::this_thread::yield();
}

TEST(Server, ItsStatusCounts) {
  FakeServer fake;
  const auto client = fake.client_with("echo");
  for (int i = 0; i < 3; ++i) client->ask(FrameKind::kRun, RawClient::run(1, {1, 2})).value();
  const auto reply = client->ask(FrameKind::kStatus, "");
  const auto status = nlohmann::json::parse(*reply);
  EXPECT_EQ(status["runs"], 3);
  EXPECT_EQ(status["engine"]["name"], "fake");
  EXPECT_EQ(status["device"], "cpu");
  EXPECT_EQ(status["compute"]["samples"], 3);
  EXPECT_GT(status["compute"]["p95_us"], 0);
  EXPECT_GT(status["bytes"]["received"], 0);
  EXPECT_EQ(status["bytes"]["uploaded"], 4);
  EXPECT_EQ(status["models"].size(), 1u);
  EXPECT_EQ(status["models"][0]["in_use"], true);
  EXPECT_EQ(status["sessions"][0]["runs"], 3);
  EXPECT_EQ(status["sessions"][0]["users"], 1);
  EXPECT_EQ(status["connections"], 1);
}

// The same over real sockets, with the project's own client.
TEST(Server, OverTcpAndUnix) {
  TemporaryFolder folder;
  auto engine = std::make_unique<FakeEngine>();
  const auto stage = engine->stage;
  ServerOptions options;
  options.store.folder = folder / "store";
  options.listen = {*wire::parse_endpoint("127.0.0.1:0"),
                    *wire::parse_endpoint("unix:" + (folder / "socket"))};
  const auto server = Server::start(std::move(engine), options);
  ASSERT_TRUE(server) << server.error().message;
  ASSERT_EQ((*server)->addresses().size(), 2u);
  EXPECT_NE((*server)->addresses()[0].port, 0);
  for (const wire::Endpoint& address : (*server)->addresses()) {
    auto stream = wire::connect_to(address, limits::kConnectTimeout);
    ASSERT_TRUE(stream) << stream.error().message;
    RawClient client(std::move(*stream));
    client.hello();
    client.upload({{"model", "block"}});
    ASSERT_TRUE(client.open(1, {{"model", "block"}}));
    client.send(FrameKind::kRun, RawClient::run(1, {1}));
    stage->wait_for_running(1);
    ASSERT_TRUE(client.connection.send({.kind = FrameKind::kCancel, .request_id = client.request}));
    EXPECT_EQ(client.receive().error().kind, ErrorKind::kCancelled);
    // Gone by a close while it computes: poll sees it.
    client.send(FrameKind::kRun, RawClient::run(1, {1}));
    stage->wait_for_running(1);
    client.connection.stream().shut_down();
    stage->wait_for_running(0);
  }
}

TEST(Server, EndsWithClientsConnectedAndRunsUnderWay) {
  auto fake = std::make_unique<FakeServer>();
  const auto idle = fake->client(), busy = fake->client_with("block");
  busy->send(FrameKind::kRun, RawClient::run(1, {1}));
  fake->stage->wait_for_running(1);
  fake.reset();
  EXPECT_TRUE(idle->is_closed());
}

}  // namespace
}  // namespace outboard::serve
