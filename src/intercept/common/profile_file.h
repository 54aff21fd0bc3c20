// SPDX-License-Identifier: Apache-2.0
// The profile that a program's own library writes of a session (Chrome trace events, a JSON array):
// what happened beyond this process is added to it. Thread-safe but for calls with the same file.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "intercept/common/trace.h"

namespace outboard::intercept {

// `start_ns`: when the profile began, on the system's clock or the monotonic one (libraries differ;
// whichever is nearer is meant); its times count from there. kInvalid: no such file, or not a
// JSON array.
Result<void> append_to_profile(const std::string& path, const Trace& trace, std::uint64_t start_ns);

}  // namespace outboard::intercept
