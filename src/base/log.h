// SPDX-License-Identifier: Apache-2.0
// Logging for every folder, interposers included: one line to standard error by write(2), so that
// it works inside somebody else's process, after fork and while it exits.
// Thread-safe. OUTBOARD_LOG=error|warn|info|debug sets the level (default warn inside interposers,
// info in the server).
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace outboard {

enum class LogLevel : int { kError = 0, kWarn = 1, kInfo = 2, kDebug = 3 };

using LogSink = void (*)(LogLevel, std::string_view line);

void set_log_level(LogLevel level);  // OUTBOARD_LOG, where it is set, wins
LogLevel log_level();
void set_log_sink(LogSink sink);  // nullptr: standard error again
void write_log(LogLevel level, std::string line);

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (level <= log_level()) write_log(level, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::kError, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::kWarn, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::kDebug, format, std::forward<Args>(args)...);
}

}  // namespace outboard
