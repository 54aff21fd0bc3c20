// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/profile_file.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/clock.h"

namespace outboard::intercept {
namespace {

// What must be taken from a time of the monotonic clock to make it one of the profile.
std::int64_t profile_origin_ns(std::uint64_t start_ns) {
  const std::int64_t monotonic = Clock::monotonic().now().count();
  const std::int64_t system = std::chrono::duration_cast<std::chrono::nanoseconds>(
                                  std::chrono::system_clock::now().time_since_epoch())
                                  .count();
  const auto start = static_cast<std::int64_t>(start_ns);
  if (std::abs(start - monotonic) < std::abs(start - system)) return start;
  return start - (system - monotonic);
}

}  // namespace

Result<void> append_to_profile(const std::string& path, const Trace& trace,
                               std::uint64_t start_ns) {
  std::vector<TraceEvent> events = trace.events();
  if (events.empty()) return {};
  const std::int64_t origin = profile_origin_ns(start_ns);
  for (TraceEvent& event : events) {
    event.start_ns -= origin;
    event.run.start_ns -= origin;
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "r+b"),
                                                             &std::fclose);
  if (file == nullptr) return error(ErrorKind::kInvalid, "profile ({}) cannot be opened", path);
  std::string text;
  std::array<char, 1 << 16> chunk{};
  while (const std::size_t n = std::fread(chunk.data(), 1, chunk.size(), file.get()))
    text.append(chunk.data(), n);
  const std::size_t end = text.find_last_of(']');
  if (end == std::string::npos)
    return error(ErrorKind::kInvalid, "profile ({}) must be a JSON array", path);
  const std::size_t last = text.find_last_not_of(" \t\r\n", end - 1);
  const bool is_empty = last == std::string::npos || text[last] == '[';
  std::string tail = is_empty ? "" : ",\n";
  tail += chrome_events(events, static_cast<std::uint32_t>(::getpid()), "Outboard") + "\n]\n";
  if (std::fseek(file.get(), static_cast<long>(end), SEEK_SET) != 0 ||
      std::fwrite(tail.data(), 1, tail.size(), file.get()) != tail.size() ||
      std::fflush(file.get()) != 0)
    return error(ErrorKind::kInvalid, "profile ({}) cannot be written", path);
  return {};
}

}  // namespace outboard::intercept
