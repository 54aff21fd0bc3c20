// SPDX-License-Identifier: Apache-2.0
// Tenants: limits are refusals, and nobody learns anything of another.
#include "serve/tenant.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/serve/support.h"

namespace outboard::serve {
namespace {

using wire::FrameKind;
using namespace std::chrono_literals;

class TenantTest : public testing::Test {
 protected:
  Tenant& tenant(const std::string& name, TenantLimits limits = {}, double weight = 1) {
    auto made = fake.server->tenants().get({name, weight, limits});
    EXPECT_TRUE(made) << made.error().message;
    return **made;
  }
  std::unique_ptr<RawClient> client_of(Tenant& who) {
    auto [here, there] = wire::make_stream_pair();
    fake.server->serve(std::move(there), who);
    auto made = std::make_unique<RawClient>(std::move(here));
    made->hello();
    return made;
  }
  std::unique_ptr<RawClient> client_with(Tenant& who, const std::string& word) {
    auto made = client_of(who);
    made->upload({{"model", word}});
    const auto opened = made->open(1, {{"model", word}});
    EXPECT_TRUE(opened) << opened.error().message;
    return made;
  }
  static nlohmann::json status_of(RawClient& client) {
    return nlohmann::json::parse(*client.ask(FrameKind::kStatus, {}));
  }
  // A refusal that left the connection alive.
  static void expect_refused(RawClient& client, const Result<std::string>& answer, ErrorKind kind,
                             const std::string& words) {
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().kind, kind) << answer.error().message;
    EXPECT_NE(answer.error().message.find(words), std::string::npos) << answer.error().message;
    EXPECT_TRUE(client.ask(FrameKind::kPing, "still there"));
  }

  FakeServer fake{{.slots = 1}};
};

TEST_F(TenantTest, NamesAreFoldersNames) {
  for (const char* name : {"alice", "team-7", "a.b_c", "A"}) EXPECT_TRUE(check_tenant_name(name));
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "local", "ü", "a b", "a\n"})
    EXPECT_FALSE(check_tenant_name(name)) << name;
  EXPECT_FALSE(check_tenant_name(std::string(65, 'a')));
}

TEST_F(TenantTest, AModelOfAnotherIsNotThere) {
  const auto alice = client_with(tenant("alice"), "echo");
  const auto bob = client_of(tenant("bob"));
  const auto manifest = manifest_of({{"model", "echo"}});
  // Not by asking, not by opening, and not by sending a piece that need not be sent.
  const auto state =
      wire::decode_model_state(bytes_of(*bob->ask(FrameKind::kModelQuery, wire::encode(manifest))));
  ASSERT_TRUE(state);
  EXPECT_FALSE(state->complete);
  EXPECT_EQ(state->have_bytes, (std::vector<std::uint64_t>{0}));
  EXPECT_EQ(bob->open(1, {{"model", "echo"}}).error().kind, ErrorKind::kNotFound);
  const auto wrong = bob->ask(FrameKind::kUploadChunk, RawClient::chunk("echo", 0, "ecko"));
  EXPECT_EQ(wrong.error().kind, ErrorKind::kInvalid) << "bytes that are not the model's";
  bob->upload({{"model", "echo"}});
  EXPECT_TRUE(bob->open(1, {{"model", "echo"}}));
  EXPECT_EQ(fake.stage->opened, 2) << "nor by how quickly a session opens";
  // Nor is it there for who has no token.
  EXPECT_EQ(fake.client()->open(1, {{"model", "echo"}}).error().kind, ErrorKind::kNotFound);
}

TEST_F(TenantTest, StatusIsAboutOneselfAlone) {
  const auto alice = client_with(tenant("alice"), "echo");
  ASSERT_TRUE(alice->ask(FrameKind::kRun, RawClient::run(1, {1})));
  const auto bob = client_of(tenant("bob", {.runs_per_s = 5}, 3));
  const auto seen = status_of(*bob);
  EXPECT_EQ(seen["tenant"], "bob");
  EXPECT_EQ(seen["runs"], 0);
  EXPECT_EQ(seen["connections"], 1);
  EXPECT_EQ(seen["bytes"]["uploaded"], 0);
  EXPECT_TRUE(seen["models"].empty());
  EXPECT_TRUE(seen["sessions"].empty());
  EXPECT_EQ(seen["compute"]["samples"], 0);
  EXPECT_EQ(seen["weight"], 3.0);
  EXPECT_EQ(seen["limits"]["runs_per_s"], 5.0);
  EXPECT_EQ(seen.dump().find("alice"), std::string::npos);
  EXPECT_EQ(seen.dump().find(fake.folder.path()), std::string::npos) << "nor of the server's disk";
  EXPECT_FALSE(seen.contains("resident_bytes"));
  EXPECT_EQ(status_of(*alice)["runs"], 1);
  // Who runs the server sees all.
  const auto all = status_of(*fake.client());
  EXPECT_EQ(all["runs"], 1);
  ASSERT_EQ(all["tenants"].size(), 3u);
  EXPECT_EQ(all["tenants"][1]["name"], "alice");
  EXPECT_EQ(all["tenants"][1]["runs"], 1);
}

TEST_F(TenantTest, TheQueueThatIsToldIsOnesOwn) {
  Tenant& alice = tenant("alice");
  const auto holder = client_with(alice, "block"), waiter = client_with(alice, "block");
  const auto bob = client_with(tenant("bob"), "echo");
  holder->send(FrameKind::kRun, RawClient::run(1, {1}));
  fake.stage->wait_for_running(1);
  waiter->send(FrameKind::kRun, RawClient::run(1, {1}));
  while (fake.server->shared().queue.depth() != 2) std::this_thread::yield();
  EXPECT_EQ(status_of(*bob)["queue_depth"], 0);
  EXPECT_EQ(status_of(*client_of(alice))["queue_depth"], 2);
  EXPECT_EQ(status_of(*fake.client())["queue_depth"], 2);
  fake.stage->release(2);
  EXPECT_TRUE(holder->receive());
  EXPECT_TRUE(waiter->receive());
}

TEST_F(TenantTest, AsManySessionsAsItMay) {
  const auto client = client_with(tenant("alice", {.sessions = 1}), "echo");
  client->upload({{"model", "fail"}});
  expect_refused(*client, client->open(2, {{"model", "fail"}}), ErrorKind::kRefused,
                 "as many sessions as it may (1)");
  EXPECT_TRUE(client->open(3, {{"model", "echo"}})) << "the same session again is no other";
  // A session that nobody uses makes place.
  for (const std::uint32_t handle : {1, 3})
    client->send(FrameKind::kSessionClose, wire::encode_session_close(handle));
  EXPECT_TRUE(client->open(2, {{"model", "fail"}}));
}

TEST_F(TenantTest, AsMuchDeviceMemoryAsItMay) {
  const auto client = client_with(tenant("alice", {.device_memory_bytes = 7}), "echo");
  client->upload({{"model", "fail"}});
  expect_refused(*client, client->open(2, {{"model", "fail"}}), ErrorKind::kRefused,
                 "4 bytes of the device's memory");
}

TEST_F(TenantTest, AsMuchOfTheStoreAsItMay) {
  const auto client = client_with(tenant("alice", {.store_bytes = 7}), "echo");
  const auto state =
      client->ask(FrameKind::kModelQuery, wire::encode(manifest_of({{"model", "fail"}})));
  ASSERT_TRUE(state);
  expect_refused(*client, client->ask(FrameKind::kUploadChunk, RawClient::chunk("fail", 0, "fail")),
                 ErrorKind::kRefused, "full of models in use");
  expect_refused(
      *client,
      client->ask(FrameKind::kModelQuery, wire::encode(manifest_of({{"model", "eight bytes"}}))),
      ErrorKind::kRefused, "at most the store's (7)");
}

TEST_F(TenantTest, AsManyRunsAtOnceAsItMay) {
  Tenant& alice = tenant("alice", {.concurrent_runs = 1});
  const auto first = client_with(alice, "block"), second = client_with(alice, "block");
  const auto bob = client_with(tenant("bob"), "echo");
  first->send(FrameKind::kRun, RawClient::run(1, {1}));
  fake.stage->wait_for_running(1);
  expect_refused(*second, second->ask(FrameKind::kRun, RawClient::run(1, {1})),
                 ErrorKind::kOverloaded, "as many Runs under way as it may (1)");
  fake.stage->release(1);
  EXPECT_TRUE(first->receive());
  EXPECT_TRUE(bob->ask(FrameKind::kRun, RawClient::run(1, {1})));
  EXPECT_EQ(alice.statistics().refused_runs, 1u);
}

TEST_F(TenantTest, AsManyBytesUnderWayAsItMay) {
  const auto client = client_with(tenant("alice", {.in_flight_bytes = 100}), "echo");
  EXPECT_TRUE(client->ask(FrameKind::kRun, RawClient::run(1, std::vector<float>(16))));
  expect_refused(*client, client->ask(FrameKind::kRun, RawClient::run(1, std::vector<float>(100))),
                 ErrorKind::kRefused, "must be at most what the server holds");
}

TEST_F(TenantTest, AsManyConnectionsAsItMay) {
  Tenant& alice = tenant("alice", {.connections = 1});
  auto first = client_of(alice);
  auto [here, there] = wire::make_stream_pair();
  fake.server->serve(std::move(there), alice);
  RawClient second(std::move(here));
  const auto answer = second.ask(FrameKind::kHello, wire::encode(wire::Hello{"test", "id", {}}));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kOverloaded);
  client_of(tenant("bob"));
}

TEST_F(TenantTest, AsManyRunsASecondAsItMay) {
  TokenBucket bucket;
  int taken = 0;
  // For ten seconds, a hundred a second, where 20 a second may come: those, and the first burst.
  for (int i = 0; i < 1000; ++i)
    if (bucket.take(20, Nanoseconds(10ms) * i)) ++taken;
  EXPECT_NEAR(taken, 220, 1);
  TokenBucket slow;
  EXPECT_TRUE(slow.take(0.5, 0s));
  EXPECT_FALSE(slow.take(0.5, 1s));
  EXPECT_TRUE(slow.take(0.5, 2s));

  const auto client = client_with(tenant("alice", {.runs_per_s = 1e-3}), "echo");
  EXPECT_TRUE(client->ask(FrameKind::kRun, RawClient::run(1, {1})));
  expect_refused(*client, client->ask(FrameKind::kRun, RawClient::run(1, {1})),
                 ErrorKind::kOverloaded, "as many Runs a second as it may (0.001)");
}

TEST_F(TenantTest, LimitsThatChangeHoldAtOnce) {
  Tenant& alice = tenant("alice");
  const auto client = client_with(alice, "echo");
  tenant("alice", {.sessions = 1, .runs_per_s = 1e-3});
  client->upload({{"model", "fail"}});
  EXPECT_EQ(client->open(2, {{"model", "fail"}}).error().kind, ErrorKind::kRefused);
  EXPECT_TRUE(client->ask(FrameKind::kRun, RawClient::run(1, {1})));
  EXPECT_FALSE(client->ask(FrameKind::kRun, RawClient::run(1, {1})));
  tenant("alice");
  EXPECT_TRUE(client->open(2, {{"model", "fail"}}));
  EXPECT_TRUE(client->ask(FrameKind::kRun, RawClient::run(1, {1})));
}

// A flood of one and a Run now and then of another, on a device with one slot that a test ends by
// hand: the other's Run is next after the one that computes.
TEST_F(TenantTest, AFloodIsPassedByAnother) {
  Tenant& flooder = tenant("flooder");
  std::vector<std::unique_ptr<RawClient>> flood;
  for (int i = 0; i < 8; ++i) {
    flood.push_back(client_with(flooder, "block"));
    flood.back()->send(FrameKind::kRun, RawClient::run(1, {1}));
  }
  fake.stage->wait_for_running(1);
  while (fake.server->shared().queue.depth() != 8) std::this_thread::yield();
  const auto other = client_with(tenant("other"), "echo");
  other->send(FrameKind::kRun, RawClient::run(1, {1}));
  while (fake.server->shared().queue.depth() != 9) std::this_thread::yield();
  fake.stage->release(1);
  EXPECT_TRUE(other->receive()) << "after one of eight";
  fake.stage->release(7);
  for (const auto& client : flood) EXPECT_TRUE(client->receive());
}

}  // namespace
}  // namespace outboard::serve
