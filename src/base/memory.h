// SPDX-License-Identifier: Apache-2.0
// A process' memory, as the kernel counts it. Thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace outboard {

// The resident set: of this process, or of `pid`. 0 where it cannot be read, or has ended.
std::uint64_t resident_bytes(pid_t pid = 0);

}  // namespace outboard
