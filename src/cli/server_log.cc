// SPDX-License-Identifier: Apache-2.0
#include "cli/server_log.h"

#include <fmt/chrono.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/serve_options.h"

namespace outboard::cli {
namespace {

constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::err, spdlog::level::warn,
                                                 spdlog::level::info, spdlog::level::debug};
constexpr const char* kNames[] = {"error", "warning", "info", "debug"};

void log_text(LogLevel level, std::string_view line) {
  spdlog::default_logger_raw()->log(kLevels[static_cast<int>(level)],
                                    spdlog::string_view_t(line.data(), line.size()));
}

void log_json(LogLevel level, std::string_view line) {
  const auto now =
      std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const std::string time = fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                                       fmt::gmtime(std::chrono::system_clock::to_time_t(now)),
                                       now.time_since_epoch().count() % 1000);
  log_text(level, json_log_line(level, time, line));
}

bool is_key(std::string_view text) {
  return !text.empty() &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string_view::npos;
}

// Whether "key=" comes first.
bool begins_with_key(std::string_view text) {
  const std::size_t equals = text.find('=');
  return equals != std::string_view::npos && is_key(text.substr(0, equals));
}

// The next "key=value" or key="a value" of `rest`, taken off it. An empty key: there is none.
std::pair<std::string_view, std::string_view> take_field(std::string_view& rest) {
  if (!begins_with_key(rest)) return {};
  const std::size_t equals = rest.find('=');
  const std::string_view key = rest.substr(0, equals);
  const bool quoted = rest.substr(equals + 1, 1) == "\"";
  const std::size_t begin = equals + (quoted ? 2 : 1);
  // A quoted value ends at the last quote before the next field or the end: values are not escaped.
  std::size_t end = quoted ? begin : std::min(rest.find(' ', begin), rest.size());
  if (quoted) {
    do {
      end = rest.find('"', end == begin ? begin : end + 1);
      if (end == std::string_view::npos) return {};
    } while (end + 1 < rest.size() &&
             !(rest[end + 1] == ' ' && begins_with_key(rest.substr(end + 2))));
  }
  const std::string_view value = rest.substr(begin, end - begin);
  rest.remove_prefix(std::min(end + (quoted ? 2 : 1), rest.size()));
  return {key, value};
}

nlohmann::json number_or_text(std::string_view value) {
  const char* begin = value.data();
  const char* end = begin + value.size();
  std::int64_t whole = 0;
  if (const auto got = std::from_chars(begin, end, whole); got.ec == std::errc{} && got.ptr == end)
    return whole;
  double real = 0;
  if (const auto got = std::from_chars(begin, end, real, std::chars_format::fixed);
      got.ec == std::errc{} && got.ptr == end)
    return real;
  return value;
}

}  // namespace

std::string json_log_line(LogLevel level, std::string_view time, std::string_view line) {
  nlohmann::ordered_json fields = {{"time", time}, {"level", kNames[static_cast<int>(level)]}};
  // The event is what comes before the first field.
  std::size_t begin = 0;
  for (std::size_t space = line.find(' '); space != std::string_view::npos;
       space = line.find(' ', space + 1)) {
    if (begins_with_key(line.substr(space + 1))) {
      begin = space + 1;
      break;
    }
  }
  fields["event"] = begin == 0 ? line : line.substr(0, begin - 1);
  std::string_view rest = begin == 0 ? std::string_view{} : line.substr(begin);
  while (!rest.empty()) {
    const auto [key, value] = take_field(rest);
    if (key.empty()) {
      fields["event"] = line;  // not of the form after all: nothing is lost
      break;
    }
    // The three above are never overwritten.
    fields.emplace(key, number_or_text(value));
  }
  return fields.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void set_up_log(const std::string& level, const std::string& format) {
  const bool json = format == "json";
  auto logger = spdlog::stderr_logger_mt("outboard");
  logger->set_pattern(json ? "%v" : "%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  logger->set_level(spdlog::level::debug);  // base/log.h decides
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
  set_log_level(log_level_of(level));
  set_log_sink(json ? log_json : log_text);
}

}  // namespace outboard::cli
