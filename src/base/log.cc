// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <optional>

namespace outboard {
namespace {

std::optional<LogLevel> level_from_environment() {
  const char* text = std::getenv("OUTBOARD_LOG");
  if (text == nullptr) return std::nullopt;
  std::string_view name = text;
  if (name == "error") return LogLevel::kError;
  if (name == "warn") return LogLevel::kWarn;
  if (name == "info") return LogLevel::kInfo;
  if (name == "debug") return LogLevel::kDebug;
  return std::nullopt;
}

const std::optional<LogLevel> environment_level = level_from_environment();
std::atomic<LogLevel> current_level{environment_level.value_or(LogLevel::kWarn)};
std::atomic<LogSink> current_sink{nullptr};

constexpr std::string_view kPrefix[] = {
    "outboard: error: ", "outboard: warning: ", "outboard: ", "outboard: debug: "};

}  // namespace

void set_log_level(LogLevel level) { current_level = environment_level.value_or(level); }
LogLevel log_level() { return current_level.load(std::memory_order_relaxed); }
void set_log_sink(LogSink sink) { current_sink = sink; }

void write_log(LogLevel level, std::string line) {
  if (LogSink sink = current_sink.load()) return sink(level, line);
  line.insert(0, kPrefix[static_cast<int>(level)]);
  line.push_back('\n');
  // One write, so that lines of several threads and processes do not mix.
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace outboard
