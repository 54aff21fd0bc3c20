// SPDX-License-Identifier: Apache-2.0
// What a sandbox forbids, tried one by one.
#pragma once

#include <span>

namespace outboard::serve {

struct Attempt {
  const char* name;
  int (*make)();  // 0: it succeeded; else errno
};
std::span<const Attempt> escape_attempts();

}  // namespace outboard::serve
