// SPDX-License-Identifier: Apache-2.0
// Any bytes as a frame. The header's fields that a mutation almost never gets right are set, so
// that what comes after them is reached: magic, version and length.
#include <cstdint>
#include <cstring>
#include <string>

#include "tests/wire/golden.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  (void)outboard::wire::decode_as_receiver(bytes);
  if (size >= outboard::wire::kFrameHeaderBytes) {
    outboard::wire::FrameHeader header;
    header.kind = static_cast<outboard::wire::FrameKind>(data[5]);
    header.length = size - outboard::wire::kFrameHeaderBytes;
    const auto encoded = outboard::wire::encode(header);
    std::memcpy(bytes.data(), encoded.data(), encoded.size());
    (void)outboard::wire::decode_as_receiver(bytes);
  }
  return 0;
}
