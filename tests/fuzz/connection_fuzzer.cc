// SPDX-License-Identifier: Apache-2.0
// Whole connections against a live server. The input is a list of frames, [kind][length
// u16][bytes], which get right headers behind a right hello; with the first byte odd it is the raw
// bytes of a connection. The server must outlive every one of them, and a witness's Run must go on.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>

#include "base/check.h"
#include "tests/fuzz/script_stream.h"
#include "tests/serve/support.h"

namespace outboard::serve {
namespace {

struct Stage {
  FakeServer fake;
  std::unique_ptr<RawClient> witness = fake.client_with("echo");
};

Stage& stage() {
  static Stage made;
  return made;
}

std::string frame(wire::FrameKind kind, std::uint64_t id, std::string_view payload) {
  const auto header =
      wire::encode(wire::FrameHeader{.kind = kind, .request_id = id, .length = payload.size()});
  return std::string(reinterpret_cast<const char*>(header.data()), header.size()).append(payload);
}

std::string script_of(std::string_view input) {
  std::string script = frame(wire::FrameKind::kHello, 1, wire::encode(wire::Hello{"f", "f", {}}));
  for (std::uint64_t id = 2; input.size() >= 3; ++id) {
    const auto kind = static_cast<wire::FrameKind>(input[0]);
    const std::size_t length =
        std::min<std::size_t>(static_cast<unsigned char>(input[1]) |
                                  std::size_t{static_cast<unsigned char>(input[2])} << 8,
                              input.size() - 3);
    script += frame(kind, id, input.substr(3, length));
    input.remove_prefix(3 + length);
  }
  return script;
}

}  // namespace
}  // namespace outboard::serve

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace outboard::serve;
  if (size == 0) return 0;
  Stage& s = stage();
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string script = (data[0] & 1) != 0 ? std::string(input) : script_of(input);
  s.fake.server->serve(std::make_unique<outboard::wire::ScriptStream>(script));
  while (s.fake.server->connection_threads() > 1) std::this_thread::yield();
  const auto answer =
      s.witness->ask(outboard::wire::FrameKind::kRun, RawClient::run(1, {1.0f, 2.0f}));
  OB_CHECK(answer.has_value());
  return 0;
}
