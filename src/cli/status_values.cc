// SPDX-License-Identifier: Apache-2.0
#include "cli/status_values.h"

#include <fmt/format.h>

namespace outboard::cli {

// The value at the end of a path of names; null when it is not there.
const json& at(const json& document, std::initializer_list<const char*> path) {
  static const json missing;
  const json* here = &document;
  for (const char* name : path) {
    if (!here->is_object() || !here->contains(name)) return missing;
    here = &(*here)[name];
  }
  return *here;
}

std::string text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "-";
  return value.dump();
}

std::string bytes(const json& value) {
  if (!value.is_number()) return "-";
  const auto number = value.get<double>();
  if (number >= 1e9) return fmt::format("{:.1f} GB", number / 1e9);
  if (number >= 1e6) return fmt::format("{:.1f} MB", number / 1e6);
  return number >= 1e3 ? fmt::format("{:.1f} kB", number / 1e3) : fmt::format("{:.0f} B", number);
}

std::string time(const json& value) {
  if (!value.is_number()) return "-";
  const auto us = value.get<double>();
  if (us >= 1e6) return fmt::format("{:.2f} s", us / 1e6);
  return us >= 1e3 ? fmt::format("{:.2f} ms", us / 1e3) : fmt::format("{:.1f} us", us);
}

std::string uptime(const json& value) {
  if (!value.is_number()) return "-";
  const auto seconds = static_cast<long>(value.get<double>());
  return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

}  // namespace outboard::cli
