// SPDX-License-Identifier: Apache-2.0
// Coded and known tensors between a client and a server: the same bits, fewer bytes, and what a
// client that lies can do (nothing).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>

#include "tests/serve/support.h"
#include "wire/client.h"
#include "wire/tensor_coder.h"

namespace outboard::serve {
namespace {

using wire::CodingMode;
using wire::ElementType;
using wire::FrameKind;

// 8-bit pixels as floats, smooth with noise.
std::vector<float> pixels(std::size_t count, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = static_cast<float>((i / 3 + random() % 8 + seed) % 256) / 255.0F - 0.5F;
  return values;
}

struct Output final : wire::OutputSink {
  Result<std::span<std::byte>> allocate(std::size_t, const wire::TensorHeader& header) override {
    if (refuses) return error(ErrorKind::kInvalid, "not this one");
    values.assign(header.data_bytes / sizeof(float), -1.0F);
    return std::as_writable_bytes(std::span(values));
  }
  Result<void> strings(std::size_t, const wire::TensorHeader&,
                       std::span<const std::string_view>) override {
    return error(ErrorKind::kInternal, "no strings here");
  }
  std::vector<float> values;
  bool refuses = false;
};

struct Coded {
  explicit Coded(CodingMode mode, Settings settings = {}, double link_bytes_per_s = 1.25e6)
      : server(std::move(settings), {}, 1u << 20) {
    wire::ClientOptions options;
    options.coding = mode;
    options.fixed_link_bytes_per_s = link_bytes_per_s;
    options.connect = [this]() -> Result<std::unique_ptr<wire::Stream>> {
      return server.connect();
    };
    client = std::make_unique<wire::Client>(wire::Endpoint{}, options);
    const auto package = wire::ModelPackage::from_bytes(bytes_of("echo"), wire::Spool::kMemory);
    EXPECT_TRUE(client->upload(**package));
    session = *client->open((*package)->id(), {});
  }
  Result<wire::RunAccount> run(const std::vector<float>& x, Output& output) const {
    const std::vector<std::uint32_t> outputs{0};
    const wire::InputTensor input{
        {ElementType::kFloat, {static_cast<std::int64_t>(x.size())}, x.size() * sizeof(float)},
        std::as_bytes(std::span(x))};
    return session->run(outputs, std::span(&input, 1), output);
  }
  // The account of a Run whose output must be its input, bit for bit.
  wire::RunAccount echo(const std::vector<float>& x) const {
    Output output;
    const auto account = run(x, output);
    EXPECT_TRUE(account) << account.error().message;
    EXPECT_TRUE(
        std::ranges::equal(std::as_bytes(std::span(output.values)), std::as_bytes(std::span(x))));
    return account.value_or(wire::RunAccount{});
  }

  FakeServer server;
  std::unique_ptr<wire::Client> client;
  std::shared_ptr<wire::RemoteSession> session;
};

TEST(CodedTensors, EveryModeBothWays) {
  const auto x = pixels(400'000);
  for (const auto& [mode, name, most] : {std::tuple{CodingMode::kPalette, "palette", 0.26},
                                         {CodingMode::kLz4, "lz4", 0.9},
                                         {CodingMode::kZstd, "zstd", 0.8},
                                         {CodingMode::kAuto, "palette", 0.26}}) {
    const Coded coded(mode);
    const auto account = coded.echo(x);
    const auto raw = static_cast<double>(x.size() * sizeof(float));
    // Bytes that zstd leaves as they are: by the speeds of a busy machine, auto may have it try.
    const std::string names = wire::names_of(account.codings);
    EXPECT_TRUE(names == name || (mode == CodingMode::kAuto && names.starts_with(name))) << names;
    EXPECT_LT(static_cast<double>(account.bytes_sent), raw * most) << name;
    EXPECT_LT(static_cast<double>(account.bytes_received), raw * most) << name;
    EXPECT_NEAR(static_cast<double>(account.raw_bytes_sent), raw, 200);
    EXPECT_NEAR(static_cast<double>(account.raw_bytes_received), raw, 200);
    EXPECT_GT(account.encode_ns, 0u);
    EXPECT_GT(account.decode_ns, 0u);
  }
}

TEST(CodedTensors, AnythingComesBack) {
  const Coded coded(CodingMode::kAuto);
  std::mt19937 random(5);
  for (const std::size_t size : {0, 1, 255, 256, 1000, 131'072, 131'073, 700'001}) {
    for (const unsigned kind : {0u, 1u, 2u}) {
      std::vector<float> x(size);
      for (float& value : x) {
        const auto bits = static_cast<std::uint32_t>(kind == 0   ? random()
                                                     : kind == 1 ? 0x7F800000 + random() % 3
                                                                 : random() % 100 << 23);
        std::memcpy(&value, &bits, sizeof value);
      }
      coded.echo(x);
    }
  }
}

TEST(CodedTensors, AFastLinkCarriesThemAsTheyAre) {
  const Coded coded(CodingMode::kAuto, {}, 1e11);
  const auto account = coded.echo(pixels(400'000));
  EXPECT_EQ(account.codings, 0u);
  EXPECT_EQ(account.raw_bytes_sent, account.bytes_sent);
  EXPECT_EQ(account.raw_bytes_received, account.bytes_received);
}

TEST(CodedTensors, EitherSideMayDecline) {
  const auto x = pixels(100'000);
  Settings settings;
  settings.tensor_coding = false;
  const Coded declined(CodingMode::kPalette, settings);
  EXPECT_EQ(declined.echo(x).codings, 0u);
  const Coded off(CodingMode::kOff);
  EXPECT_EQ(off.echo(x).codings, 0u);
}

TEST(CodedTensors, ManyThreads) {
  const Coded coded(CodingMode::kAuto);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < 6; ++i) coded.echo(pixels(60'000 + 1000 * t, t * 100 + i % 3));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(CodedTensors, AnOutputThatIsNotTakenLeavesTheConnectionInStep) {
  const Coded coded(CodingMode::kPalette);
  const auto x = pixels(400'000);
  Output refusing;
  refusing.refuses = true;
  const auto refused = coded.run(x, refusing);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "not this one");
  coded.echo(x);
  EXPECT_EQ(coded.server.server->shared().statistics.connections_total.load(), 1u);
}

// ---- known tensors ------------------------------------------------------------------------------

TEST(KnownTensors, TheThirdTimeItIsAHash) {
  const Coded coded(CodingMode::kAuto);
  const auto x = pixels(100'000);
  EXPECT_GT(coded.echo(x).bytes_sent, 10'000u);
  EXPECT_GT(coded.echo(x).bytes_sent, 10'000u) << "kept by the server";
  for (int i = 0; i < 3; ++i) {
    const auto account = coded.echo(x);
    EXPECT_LT(account.bytes_sent, 200u);
    EXPECT_NEAR(static_cast<double>(account.raw_bytes_sent), 400'000.0, 200);
    EXPECT_NE(wire::names_of(account.codings).find("known"), std::string::npos);
  }
  const auto& statistics = coded.server.server->shared().statistics;
  EXPECT_EQ(statistics.known_hits.load(), 3u);
  EXPECT_EQ(statistics.known_misses.load(), 0u);
  EXPECT_EQ(statistics.known_bytes.load(), 400'000u);
  coded.echo(pixels(100'000, 9));  // another picture is none the worse for it
}

TEST(KnownTensors, WhatTheServerLacksItAsksFor) {
  Settings settings;
  settings.max_known_bytes = 1000;  // it keeps nothing, though its client may think so
  const Coded coded(CodingMode::kAuto, settings);
  const auto x = pixels(100'000);
  for (int i = 0; i < 6; ++i) coded.echo(x);
  const auto& statistics = coded.server.server->shared().statistics;
  EXPECT_GT(statistics.known_misses.load(), 0u);
  EXPECT_EQ(statistics.known_hits.load(), 0u);
  EXPECT_EQ(statistics.failed_runs.load() + statistics.refused_runs.load(), 0u);
  EXPECT_EQ(statistics.connections_total.load(), 1u);
}

TEST(KnownTensors, AConnectionThatEndsLeavesNothing) {
  const Coded coded(CodingMode::kAuto);
  for (int i = 0; i < 2; ++i) coded.echo(pixels(100'000));
  EXPECT_EQ(coded.server.server->shared().statistics.known_bytes.load(), 400'000u);
  coded.client->drop_idle();
  while (coded.server.server->connection_threads() > 0) std::this_thread::yield();
  EXPECT_EQ(coded.server.server->shared().statistics.known_bytes.load(), 0u);
}

// ---- a client that may say anything -------------------------------------------------------------

struct Hostile {
  explicit Hostile(FakeServer& server, bool agrees = true)
      : client(std::make_unique<RawClient>(server.connect())) {
    wire::Hello hello{"test", "id", {}};
    if (agrees) {
      hello.features = {
          {wire::kFeatureTensorCoding, wire::encode(wire::CodingOffer{7, {1, 1, 1, 1, 1}})},
          {wire::kFeatureKnownTensors, {}}};
    }
    const auto reply = client->ask(FrameKind::kHello, wire::encode(hello));
    EXPECT_TRUE(reply);
    EXPECT_EQ(wire::decode_hello_reply(bytes_of(*reply))->features.size(), agrees ? 2u : 0u);
    client->upload({{"model", "echo"}});
    EXPECT_TRUE(client->open(1, {{"model", "echo"}}));
  }
  // A Run of `count` floats that follow in chunks, or by a hash.
  static std::string run(std::int64_t count, std::optional<Sha256> known = std::nullopt,
                         std::uint32_t handle = 1) {
    wire::RunRequest request;
    request.session = handle;
    request.outputs = {0};
    request.inputs = {{.type = ElementType::kFloat,
                       .dims = {count},
                       .data_bytes = static_cast<std::uint64_t>(count) * 4,
                       .in_chunks = !known,
                       .known = known,
                       .keep = !known}};
    return wire::encode(request);
  }
  // Of the request that was sent last.
  void chunk(std::uint32_t decoded_bytes, std::string_view body, std::uint64_t of = 0) {
    const auto record = wire::encode(wire::ChunkRecord{.decoded_bytes = decoded_bytes});
    std::string payload(reinterpret_cast<const char*>(record.data()), record.size());
    payload.append(body);
    (void)client->connection.send(
        {.kind = FrameKind::kTensorChunk, .request_id = of == 0 ? client->request : of}, payload);
  }
  bool is_refused() {
    const auto reply = client->receive();
    return !reply && (reply.error().kind == ErrorKind::kInvalid ||
                      reply.error().kind == ErrorKind::kDisconnected);
  }
  std::unique_ptr<RawClient> client;
};

TEST(HostileCoding, HonestFirst) {
  FakeServer server;
  Hostile peer(server);
  peer.client->send(FrameKind::kRun, Hostile::run(4));
  peer.chunk(8, std::string(8, 'a'));
  peer.chunk(8, std::string(8, 'b'));
  const auto reply = peer.client->receive();
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->substr(reply->size() - 16), "aaaaaaaabbbbbbbb");
}

TEST(HostileCoding, WhatWasNotAgreedOnEndsTheConnection) {
  for (const auto& known : {std::optional<Sha256>(), std::optional<Sha256>(Sha256{})}) {
    FakeServer server;
    Hostile peer(server, /*agrees=*/false);
    peer.client->send(FrameKind::kRun, Hostile::run(4, known));
    EXPECT_TRUE(peer.is_refused());
    EXPECT_TRUE(peer.client->is_closed());
  }
  FakeServer server;
  Hostile peer(server, /*agrees=*/false);
  peer.client->request++;
  peer.chunk(8, std::string(8, 'a'));
  EXPECT_TRUE(peer.is_refused());
}

TEST(HostileCoding, ChunksThatDoNotFitEndTheConnection) {
  const std::vector<std::function<void(Hostile&)>> lies = {
      [](Hostile& peer) { peer.chunk(20, std::string(20, 'a')); },  // beyond the tensor
      [](Hostile& peer) { peer.chunk(8, std::string(7, 'a')); },
      [](Hostile& peer) { peer.chunk(8, std::string(9, 'a')); },
      [](Hostile& peer) { peer.chunk(0, ""); },
      [](Hostile& peer) { peer.chunk(2u << 20, "a"); },
      [](Hostile& peer) { peer.chunk(8, std::string(8, 'a'), 99); },  // of another request
      [](Hostile& peer) { peer.client->send(FrameKind::kPing, "in between"); },
  };
  for (const auto& lie : lies) {
    FakeServer server;
    Hostile peer(server);
    peer.client->send(FrameKind::kRun, Hostile::run(4));
    lie(peer);
    EXPECT_TRUE(peer.is_refused());
  }
}

TEST(HostileCoding, ChunksOfARefusedRunAreSkipped) {
  FakeServer server;
  Hostile peer(server);
  peer.client->send(FrameKind::kRun, Hostile::run(4, std::nullopt, /*handle=*/77));
  peer.chunk(8, std::string(8, 'a'));
  peer.chunk(8, std::string(8, 'b'));
  const auto reply = peer.client->receive();
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(*peer.client->ask(FrameKind::kPing, "still here"), "still here");
}

TEST(HostileCoding, ACancelBetweenChunksEndsTheRun) {
  FakeServer server;
  Hostile peer(server);
  peer.client->send(FrameKind::kRun, Hostile::run(4));
  peer.chunk(8, std::string(8, 'a'));
  (void)peer.client->connection.send(
      {.kind = FrameKind::kCancel, .request_id = peer.client->request});
  peer.chunk(8, std::string(8, 'b'));
  const auto reply = peer.client->receive();
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::kCancelled);
  EXPECT_EQ(*peer.client->ask(FrameKind::kPing, "still here"), "still here");
}

TEST(HostileCoding, NobodyLearnsByAHashWhatAnotherSent) {
  FakeServer server;
  Hostile one(server), other(server);
  const std::string secret = "a secret of 16 B";
  one.client->send(FrameKind::kRun, Hostile::run(4));
  one.chunk(16, secret);
  ASSERT_TRUE(one.client->receive());
  const Sha256 hash = sha256(bytes_of(secret));
  // Its own connection has it; another is asked for it like for anything else.
  one.client->send(FrameKind::kRun, Hostile::run(4, hash));
  ASSERT_TRUE(one.client->receive());
  EXPECT_EQ(one.client->kind, FrameKind::kRunResult);
  other.client->send(FrameKind::kRun, Hostile::run(4, hash));
  ASSERT_TRUE(other.client->receive());
  EXPECT_EQ(other.client->kind, FrameKind::kTensorsWanted);
  other.chunk(16, "something  else.");
  ASSERT_TRUE(other.client->receive());
  EXPECT_EQ(other.client->kind, FrameKind::kRunResult);
}

TEST(HostileCoding, AHintIsChecked) {
  FakeServer server;
  Hostile peer(server);
  peer.client->send(FrameKind::kCodingHint, "sixteen bytes ..");
  EXPECT_TRUE(peer.is_refused());
}

}  // namespace
}  // namespace outboard::serve
