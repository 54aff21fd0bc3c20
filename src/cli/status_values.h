// SPDX-License-Identifier: Apache-2.0
// Values of a server's status document, for people. What is missing (an older server) is "-".
// Pure; thread-safe.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>

namespace outboard::cli {

using nlohmann::json;

// The value at the end of a path of names; null when it is not there.
const json& at(const json& document, std::initializer_list<const char*> path);

std::string text(const json& value);
std::string bytes(const json& value);   // "1.2 MB"
std::string time(const json& value);    // of microseconds: "1.20 ms"
std::string uptime(const json& value);  // of seconds: "1:02:03"

}  // namespace outboard::cli
