// SPDX-License-Identifier: Apache-2.0
// Control messages: the first byte chooses the decoder, the rest is the message. What is understood
// must be the same after it was written and read again.
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "wire/messages.h"

namespace outboard::wire {
namespace {

template <typename Decode>
void round_trip(Bytes bytes, const Decode& decode) {
  const auto first = decode(bytes);
  if (!first) return;
  const std::string again = encode(*first);
  const auto second = decode(std::as_bytes(std::span(again)));
  OB_CHECK(second.has_value());
  if constexpr (requires { *first == *second; }) OB_CHECK(*first == *second);
}

}  // namespace
}  // namespace outboard::wire

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace outboard::wire;
  if (size == 0) return 0;
  // In memory of its own, so that a read beyond it is seen.
  const std::vector<std::uint8_t> copy(data + 1, data + size);
  const Bytes bytes = std::as_bytes(std::span(copy));
  switch (data[0] % 8) {
    case 0:
      round_trip(bytes, decode_hello);
      break;
    case 1:
      round_trip(bytes, decode_hello_reply);
      break;
    case 2:
      round_trip(bytes, decode_error);
      break;
    case 3:
      round_trip(bytes, decode_model_manifest);
      break;
    case 4:
      round_trip(bytes, decode_model_state);
      break;
    case 5:
      round_trip(bytes, decode_upload_state);
      break;
    case 6:
      round_trip(bytes, decode_session_open);
      break;
    default:
      round_trip(bytes, decode_session_description);
  }
  return 0;
}
