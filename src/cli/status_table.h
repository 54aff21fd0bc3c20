// SPDX-License-Identifier: Apache-2.0
// A server's status document as a table for people. Pure; thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace outboard::cli {

// kInvalid when the text is no such document. Fields that are missing (an older server) are shown
// as "-".
Result<std::string> status_table(std::string_view json_text);

}  // namespace outboard::cli
