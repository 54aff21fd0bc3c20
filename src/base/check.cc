// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace outboard {
void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "outboard: a check failed (%s) at %s:%d; this is a bug in Outboard\n",
               condition, file, line);
  std::abort();
}
}  // namespace outboard
