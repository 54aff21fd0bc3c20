// SPDX-License-Identifier: Apache-2.0
// Writes the corpora that come from real frames: seeds FOLDER (tests/fuzz/corpus). Run it again
// when a message grows; what fuzzers found beyond it stays.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "tests/serve/support.h"
#include "tests/wire/golden.h"

namespace outboard {
namespace {

using wire::FrameKind;

void write(const std::filesystem::path& file, std::string_view bytes) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string listed(FrameKind kind, std::string_view payload) {
  std::string text(1, static_cast<char>(kind));
  text += static_cast<char>(payload.size() & 255);
  text += static_cast<char>(payload.size() >> 8);
  return text.append(payload);
}

std::string framed(FrameKind kind, std::uint64_t id, std::string_view payload) {
  const auto header =
      wire::encode(wire::FrameHeader{.kind = kind, .request_id = id, .length = payload.size()});
  return std::string(reinterpret_cast<const char*>(header.data()), header.size()).append(payload);
}

}  // namespace
}  // namespace outboard

int main(int argc, char** argv) {
  using namespace outboard;
  if (argc != 2) return std::fprintf(stderr, "seeds FOLDER\n"), 2;
  const std::filesystem::path corpus(argv[1]);
  const std::map<FrameKind, char> decoders = {
      {FrameKind::kHello, 0},       {FrameKind::kHelloReply, 1},   {FrameKind::kError, 2},
      {FrameKind::kModelQuery, 3},  {FrameKind::kModelState, 4},   {FrameKind::kUploadState, 5},
      {FrameKind::kSessionOpen, 6}, {FrameKind::kSessionOpened, 7}};
  std::string replies;
  std::uint64_t id = 1;
  for (const wire::GoldenFrame& frame : wire::golden_frames()) {
    const std::string name(frame.name);
    if (const auto found = decoders.find(frame.kind); found != decoders.end())
      write(corpus / "control" / name, std::string(1, found->second) + frame.payload);
    write(corpus / "connection" / name, std::string(1, '\0') + listed(frame.kind, frame.payload));
    write(corpus / "handshake" / ("private_" + name), "\x02" + wire::frame_bytes(frame));
    for (const FrameKind kind : {FrameKind::kHelloReply, FrameKind::kModelState,
                                 FrameKind::kSessionOpened, FrameKind::kRunResult})
      if (frame.kind == kind) {
        replies += framed(kind, id++,
                          kind == FrameKind::kModelState ? wire::encode(wire::ModelState{{4}, true})
                                                         : frame.payload);
        write(corpus / "client" / ("up_to_" + name), replies);
      }
  }
  write(corpus / "client" / "error",
        framed(FrameKind::kError, 1, wire::encode(Error{ErrorKind::kRefused, "no", 0})));
  // A model that is uploaded, opened and run.
  const auto manifest = serve::manifest_of({{"model", "echo"}});
  std::string whole(1, '\0');
  whole += listed(FrameKind::kModelQuery, wire::encode(manifest));
  whole += listed(FrameKind::kUploadChunk, serve::RawClient::chunk("echo", 0, "echo"));
  whole += listed(FrameKind::kSessionOpen, wire::encode(wire::SessionOpen{1, manifest.id(), {}}));
  whole += listed(FrameKind::kRun, serve::RawClient::run(1, {1, 2, 3}));
  whole += listed(FrameKind::kCancel, {});
  whole += listed(FrameKind::kStatus, {});
  whole += listed(FrameKind::kSessionClose, wire::encode_session_close(1));
  whole += listed(FrameKind::kRun, serve::RawClient::run(1, {1}));
  write(corpus / "connection" / "whole", whole);
  // TLS as it begins, and places to change in it.
  auto client =
      wire::TlsSession::make(wire::TlsContext::client({Sha256{}, {}, {}}).value()).value();
  (void)client->handshake();
  const auto& hello = client->output();
  write(corpus / "handshake" / "raw",
        std::string(1, '\0') +
            std::string(reinterpret_cast<const char*>(hello.data()), hello.size()));
  write(corpus / "handshake" / "changed", std::string("\x01\0\x10\x01\0\0\x30\x80\0", 9));
  return 0;
}
