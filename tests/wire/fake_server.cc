// SPDX-License-Identifier: Apache-2.0
#include "tests/wire/fake_server.h"

#include "base/cursor.h"

namespace outboard::wire {

SessionDescription echo_description() {
  SessionDescription d;
  d.inputs = {{"in", ElementType::kFloat, true, {-1}, {"n"}}};
  d.outputs = {{"out", ElementType::kFloat, true, {-1}, {"n"}}};
  return d;
}

FakeServer::~FakeServer() {
  drop_all();
  for (auto& thread : threads_) thread.join();
}

void FakeServer::drop_all() {
  const std::lock_guard lock(mutex_);
  for (auto& connection : live_) connection->stream().shut_down();
}

ClientOptions FakeServer::client_options() {
  ClientOptions options;
  options.connect = [this]() -> Result<std::unique_ptr<Stream>> {
    auto [client, server] = make_stream_pair();
    auto connection = std::make_shared<Connection>(std::move(server));
    ++connections;
    const std::lock_guard lock(mutex_);
    live_.push_back(connection);
    threads_.emplace_back([this, connection] { serve(connection); });
    return std::move(client);
  };
  return options;
}

void FakeServer::serve(std::shared_ptr<Connection> connection) {
  for (;;) {
    const auto header = connection->receive_header();
    if (!header) break;
    const auto payload = connection->read_string(header->length);
    if (!payload) break;
    std::optional<bool> mine;
    if (override_handler) mine = override_handler(*connection, *header, *payload);
    if (!mine.value_or(mine ? true : handle(*connection, *header, *payload))) break;
  }
  connection->stream().shut_down();
}

bool FakeServer::handle(Connection& connection, const FrameHeader& header,
                        const std::string& payload) {
  const auto reply = [&](FrameKind kind, std::string_view body) {
    return connection.send({.kind = kind, .request_id = header.request_id}, body).has_value();
  };
  const auto bytes = as_byte_span(payload);
  switch (header.kind) {
    case FrameKind::kHello:
      return reply(FrameKind::kHelloReply,
                   encode(HelloReply{"fake", "id", {}, 200, "none", "cpu", {}}));
    case FrameKind::kPing:
      return reply(FrameKind::kPong, payload);
    case FrameKind::kStatus:
      return reply(FrameKind::kStatusReply, "{}");
    case FrameKind::kSessionOpen:
      ++opens;
      return reply(FrameKind::kSessionOpened, encode(echo_description()));
    case FrameKind::kSessionClose:
      ++closes;
      return true;
    case FrameKind::kModelQuery: {
      ModelState state;
      state.complete = true;
      const ModelManifest manifest = decode_model_manifest(bytes).value();
      for (const ModelFile& file : manifest.files) {
        state.have_bytes.push_back(files[file.sha256.hex()].size());
        state.complete = state.complete && state.have_bytes.back() == file.size_bytes;
      }
      return reply(FrameKind::kModelState, encode(state));
    }
    case FrameKind::kUploadChunk: {
      const UploadChunk chunk = decode_upload_chunk(bytes.first(kUploadChunkBytes)).value();
      std::string& file = files[chunk.file.hex()];
      if (file.size() == chunk.offset) file += payload.substr(kUploadChunkBytes);
      return reply(FrameKind::kUploadState, encode(UploadState{file.size()}));
    }
    case FrameKind::kRun: {
      ++runs;
      const auto record_bytes = ByteReader(bytes).read<std::uint32_t>();
      const RunRequest request = decode_run_request(bytes.first(record_bytes)).value();
      return reply(FrameKind::kRunResult,
                   encode(RunResult{{1, 2, 3, 0}, request.inputs}) + payload.substr(record_bytes));
    }
    default:
      return reply(FrameKind::kError, encode(Error{ErrorKind::kUnimplemented, "unknown", 0}));
  }
}

}  // namespace outboard::wire
