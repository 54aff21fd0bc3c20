// SPDX-License-Identifier: Apache-2.0
// Many clients: 200 at work at once, 2,000 that are merely connected; and that nothing is left when
// they have gone: no descriptor, no thread, no memory.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <latch>
#include <thread>

#include "base/memory.h"
#include "tests/serve/support.h"
#include "wire/transport/endpoint.h"

namespace outboard::serve {
namespace {

std::size_t entries_of(const char* folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}
std::size_t descriptors() { return entries_of("/proc/self/fd"); }
std::size_t threads() { return entries_of("/proc/self/task"); }

void allow_descriptors(rlim_t count) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min(limit.rlim_max, std::max(limit.rlim_cur, count));
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::unique_ptr<Server> listening_server(const TemporaryFolder& folder) {
  ServerOptions options;
  options.store.folder = folder / "store";
  options.listen = {*wire::parse_endpoint("127.0.0.1:0")};
  auto server = Server::start(std::make_unique<FakeEngine>(), std::move(options));
  EXPECT_TRUE(server) << server.error().message;
  return std::move(*server);
}

std::unique_ptr<RawClient> connect(const Server& server) {
  auto stream = wire::connect_to(server.addresses()[0], std::chrono::seconds(10));
  EXPECT_TRUE(stream) << stream.error().message;
  auto client = std::make_unique<RawClient>(std::move(*stream));
  client->hello();
  return client;
}

void wait_until_alone(const Server& server) {
  while (server.connection_threads() > 0) std::this_thread::yield();
}

TEST(Load, TwoHundredClientsAtOnce) {
  constexpr int kClients = 200, kRuns = 20;
  TemporaryFolder folder;
  const auto server = listening_server(folder);
  connect(*server)->upload({{"model", "echo"}});
  std::latch together(kClients);
  std::atomic<int> right{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c)
    clients.emplace_back([&, c] {
      const auto client = connect(*server);
      ASSERT_TRUE(client->open(1, {{"model", "echo"}}));
      together.arrive_and_wait();
      const std::string run = RawClient::run(1, std::vector<float>(100, static_cast<float>(c)));
      for (int i = 0; i < kRuns; ++i) {
        const auto reply = client->ask(wire::FrameKind::kRun, run);
        ASSERT_TRUE(reply) << reply.error().message;
        if (reply->ends_with(run.substr(run.size() - 400))) ++right;
      }
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, kClients * kRuns);
  EXPECT_EQ(server->shared().statistics.runs, static_cast<std::uint64_t>(kClients * kRuns));
  wait_until_alone(*server);
}

TEST(Load, NothingIsLeftOfClientsThatCameAndWent) {
  TemporaryFolder folder;
  const auto server = listening_server(folder);
  connect(*server)->upload({{"model", "echo"}});
  const auto wave = [&] {
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int i = 0; i < 50; ++i) {
      clients.push_back(connect(*server));
      ASSERT_TRUE(clients.back()->open(1, {{"model", "echo"}}));
      // Each third one runs, each third one breaks off in mid-frame, each third one is silent.
      if (i % 3 == 0) {
        ASSERT_TRUE(clients.back()->ask(wire::FrameKind::kRun,
                                        RawClient::run(1, std::vector<float>(50'000, 1.0f))));
      } else if (i % 3 == 1) {
        auto header = wire::encode(
            wire::FrameHeader{.kind = wire::FrameKind::kRun, .request_id = 9, .length = 1u << 20});
        iovec part{header.data(), header.size()};
        ASSERT_TRUE(clients.back()->connection.stream().write_all(std::span(&part, 1)));
      }
    }
    clients.clear();
    wait_until_alone(*server);
  };
  for (int i = 0; i < 3; ++i) wave();  // caches fill
  const std::size_t descriptors_before = descriptors(), threads_before = threads();
  ::malloc_trim(0);
  const std::size_t memory_before = resident_bytes();
  for (int i = 0; i < 10; ++i) wave();
  ::malloc_trim(0);
  const std::size_t memory_after = resident_bytes();
  EXPECT_EQ(descriptors(), descriptors_before);
  // The thread that ended last is joined by the next one that ends.
  EXPECT_LE(threads(), threads_before + 1);
  // 500 connections later: a leak of a connection's buffer alone would be 8 MB.
  EXPECT_LT(memory_after, memory_before + (4u << 20));
  EXPECT_EQ(server->shared().statistics.in_flight_bytes, 0u);
  EXPECT_EQ(server->shared().statistics.connections, 0u);
}

TEST(Load, TwoThousandIdleConnections) {
  constexpr std::size_t kConnections = 2000;
  allow_descriptors(2 * kConnections + 100);
  TemporaryFolder folder;
  const auto server = listening_server(folder);
  auto first = connect(*server);
  first->upload({{"model", "echo"}});
  const std::size_t before = resident_bytes();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (std::size_t i = 0; i < kConnections; ++i) clients.push_back(connect(*server));
  // Client and server are one process here: both sides' buffers are in the figure.
  const double per_connection =
      static_cast<double>(resident_bytes() - before) / static_cast<double>(kConnections);
  std::printf("resident memory of a connection, both sides: %.1f KiB\n", per_connection / 1024);
  RecordProperty("bytes_per_connection", static_cast<int>(per_connection));
  EXPECT_LT(per_connection, 100 * 1024);
  EXPECT_EQ(server->shared().statistics.connections, kConnections + 1);
  ASSERT_TRUE(first->open(1, {{"model", "echo"}}));
  EXPECT_TRUE(first->ask(wire::FrameKind::kRun, RawClient::run(1, {1}))) << "and it still serves";
  clients.clear();
  first.reset();
  wait_until_alone(*server);
}

}  // namespace
}  // namespace outboard::serve
