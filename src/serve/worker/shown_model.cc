// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/shown_model.h"

#include <algorithm>
#include <limits>

namespace outboard::serve {

std::uint64_t most_shown_bytes(std::uint64_t given_bytes) {
  constexpr std::uint64_t kTimes = 4, kSlackBytes = 16u << 20;
  constexpr std::uint64_t kMostBytes = std::numeric_limits<std::int32_t>::max();
  return std::min(kMostBytes, std::min(given_bytes, kMostBytes) * kTimes + kSlackBytes);
}

Result<std::string> take_shown_model(engine::Session& session, std::uint64_t given_bytes) {
  const auto& info = session.info();
  const bool has_form = info.inputs.empty() && info.outputs.size() == 1 &&
                        info.outputs[0].type == engine::ElementType::kUint8 &&
                        info.outputs[0].dims.size() == 1;
  const std::int64_t size = has_form ? info.outputs[0].dims[0] : 0;
  const std::uint64_t most = most_shown_bytes(given_bytes);
  if (size <= 0 || static_cast<std::uint64_t>(size) > most)
    return error(ErrorKind::kInvalid,
                 "what the worker shows is no model of ({}) bytes ({} outputs, {} bytes, at most "
                 "{} expected)",
                 given_bytes, info.outputs.size(), size, most);
  std::string bytes(static_cast<std::size_t>(size), '\0');
  const engine::OutputBuffer memory{engine::ElementType::kUint8, std::span(&size, 1),
                                    std::as_writable_bytes(std::span(bytes))};
  const engine::OutputWanted wanted{0, &memory};
  OB_TRY(const auto outputs, session.run({}, std::span(&wanted, 1)));
  const auto& values = outputs->values();
  if (values.size() != 1 || values[0].data.data() != memory.data.data() ||
      values[0].data.size() != bytes.size())
    return error(ErrorKind::kInvalid, "the worker showed another model than it had announced");
  return bytes;
}

}  // namespace outboard::serve
