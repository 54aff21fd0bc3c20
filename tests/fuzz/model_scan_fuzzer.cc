// SPDX-License-Identifier: Apache-2.0
// Any bytes as a model file whose external data is looked for.
#include <cstdint>

#include "base/cursor.h"
#include "wire/model_package.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const std::string& location :
       outboard::wire::external_data_locations(outboard::as_byte_span(bytes)))
    (void)outboard::wire::is_safe_relative_path(location);
  return 0;
}
