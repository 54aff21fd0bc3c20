// SPDX-License-Identifier: Apache-2.0
// This process' memory, as the kernel counts it. Thread-safe.
#pragma once

#include <cstdint>

namespace outboard {

// The resident set. 0 where it cannot be read.
std::uint64_t resident_bytes();

}  // namespace outboard
