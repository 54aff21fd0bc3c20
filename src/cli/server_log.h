// SPDX-License-Identifier: Apache-2.0
// The log of a long-lived verb, to standard error: lines of text, or of JSON.
#pragma once

#include <string>
#include <string_view>

#include "base/log.h"

namespace outboard::cli {

// `level`: error, warn, info or debug; OUTBOARD_LOG, where it is set, wins.
// `format`: "text": "TIME LEVEL EVENT key=value key=\"a value\"", or "json": json_log_line().
void set_up_log(const std::string& level, const std::string& format);

// {"time": RFC 3339, "level": ..., "event": ..., "key": "value", ...} of "EVENT key=value ...".
// Numbers become numbers. What is not of that form stays in "event". Pure.
std::string json_log_line(LogLevel level, std::string_view time, std::string_view line);

}  // namespace outboard::cli
