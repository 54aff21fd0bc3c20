// SPDX-License-Identifier: Apache-2.0
// What tests of the server share: folders, manifests, a server with the fake engine, and a client
// that speaks raw frames.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "serve/server.h"
#include "tests/serve/fake_engine.h"
#include "wire/client.h"
#include "wire/connection.h"
#include "wire/messages.h"

namespace outboard::serve {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "outboard-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

struct NamedContent {
  std::string name, content;
};

inline wire::ModelManifest manifest_of(const std::vector<NamedContent>& files) {
  wire::ModelManifest manifest;
  for (const auto& [name, content] : files)
    manifest.files.push_back({name, content.size(), sha256(bytes_of(content))});
  return manifest;
}

// A client that may say anything.
class RawClient {
 public:
  explicit RawClient(std::unique_ptr<wire::Stream> stream) : connection(std::move(stream)) {}

  void hello() {
    const auto reply = ask(wire::FrameKind::kHello, wire::encode(wire::Hello{"test", "id", {}}));
    ASSERT_TRUE(reply) << reply.error().message;
    ASSERT_EQ(kind, wire::FrameKind::kHelloReply);
  }
  void send(wire::FrameKind what, std::string_view payload, std::uint32_t deadline_us = 0) {
    const auto sent = connection.send(
        {.kind = what, .request_id = ++request, .deadline_us = deadline_us}, payload);
    (void)sent;  // a server that has closed shows when its answer is read
  }
  // The next frame that is no heartbeat; an error frame is its error.
  Result<std::string> receive() {
    for (;;) {
      OB_TRY(const auto header, connection.receive_header());
      OB_TRY(std::string payload, connection.read_string(header.length));
      kind = header.kind;
      answered = header.request_id;
      if (kind == wire::FrameKind::kHeartbeat) {
        ++heartbeats;
        continue;
      }
      if (kind != wire::FrameKind::kError) return payload;
      OB_TRY(const Error told, wire::decode_error(bytes_of(payload)));
      return tl::make_unexpected(told);
    }
  }
  Result<std::string> ask(wire::FrameKind what, std::string_view payload) {
    send(what, payload);
    return receive();
  }
  // Whether the server has ended the connection (and said no more).
  bool is_closed() {
    const auto header = connection.receive_header();
    return !header && header.error().kind == ErrorKind::kDisconnected;
  }

  // Uploads a model whole and opens it under a handle.
  void upload(const std::vector<NamedContent>& files) {
    const auto manifest = manifest_of(files);
    const auto state = ask(wire::FrameKind::kModelQuery, wire::encode(manifest));
    ASSERT_TRUE(state) << state.error().message;
    if (wire::decode_model_state(bytes_of(*state))->complete) return;
    for (const auto& [name, content] : files) {
      const auto reply = ask(wire::FrameKind::kUploadChunk, chunk(content, 0, content));
      ASSERT_TRUE(reply) << reply.error().message;
    }
  }
  Result<std::string> open(std::uint32_t handle, const std::vector<NamedContent>& files,
                           const wire::SessionOptions& options = {}) {
    return ask(wire::FrameKind::kSessionOpen,
               wire::encode(wire::SessionOpen{handle, manifest_of(files).id(), options}));
  }
  // A piece of `content` at an offset, as a chunk's payload.
  static std::string chunk(const std::string& content, std::uint64_t offset,
                           std::string_view piece) {
    return wire::encode(wire::UploadChunk{sha256(bytes_of(content)), content.size(), offset}) +
           std::string(piece);
  }
  // A Run of the fake engine's models.
  static std::string run(std::uint32_t handle, const std::vector<float>& x) {
    wire::RunRequest request;
    request.session = handle;
    request.outputs = {0};
    request.inputs = {{.type = wire::ElementType::kFloat,
                       .dims = {static_cast<std::int64_t>(x.size())},
                       .data_bytes = x.size() * sizeof(float)}};
    return wire::encode(request) +
           std::string(reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float));
  }

  wire::Connection connection;
  wire::FrameKind kind{};
  std::uint64_t request = 0, answered = 0;
  int heartbeats = 0;
};

// A server over the in-process pair, with the fake engine.
class FakeServer {
 public:
  explicit FakeServer(Settings settings = {}, SessionPool::Options sessions = {},
                      std::uint64_t store_limit = 1u << 20) {
    auto engine = std::make_unique<FakeEngine>();
    stage = engine->stage;
    ServerOptions options;
    options.store = {.folder = folder / "store", .limit_bytes = store_limit};
    options.settings = std::move(settings);
    options.sessions = sessions;
    auto started = Server::start(std::move(engine), std::move(options));
    EXPECT_TRUE(started) << started.error().message;
    server = std::move(*started);
  }
  std::unique_ptr<wire::Stream> connect() {
    auto [here, there] = wire::make_stream_pair();
    server->serve(std::move(there));
    return std::move(here);
  }
  // Connected, greeted.
  std::unique_ptr<RawClient> client() {
    auto made = std::make_unique<RawClient>(connect());
    made->hello();
    return made;
  }
  // The same with a model uploaded and open under handle 1.
  std::unique_ptr<RawClient> client_with(const std::string& word) {
    auto made = client();
    made->upload({{"model", word}});
    const auto opened = made->open(1, {{"model", word}});
    EXPECT_TRUE(opened) << opened.error().message;
    return made;
  }

  TemporaryFolder folder;
  std::shared_ptr<FakeEngine::Stage> stage;
  std::unique_ptr<Server> server;
};

}  // namespace outboard::serve
