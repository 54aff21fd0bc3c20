// SPDX-License-Identifier: Apache-2.0
// Any bytes as a chunk of a tensor: the first says how large an element is.
#include <cstdint>

#include "tests/wire/chunks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t element_bytes = std::size_t{1} << (data[0] % 5);
  (void)outboard::wire::decode_as_receiver(
      element_bytes, {reinterpret_cast<const std::byte*>(data) + 1, size - 1});
  return 0;
}
