// SPDX-License-Identifier: Apache-2.0
// OB_CHECK: always on, for memory safety and our own bugs; never for what a peer or a user sent.
#pragma once

namespace outboard {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

#define OB_CHECK(condition) \
  ((condition) ? void(0) : ::outboard::check_failed(#condition, __FILE__, __LINE__))
