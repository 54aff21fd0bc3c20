// SPDX-License-Identifier: Apache-2.0
// Another preloaded library, which finds the function after its own with RTLD_NEXT: it must get the
// C library's, whoever else stands before dlsym().
#include <dlfcn.h>

extern "C" __attribute__((visibility("default"))) int abs(int value) noexcept {
  using Abs = int (*)(int);
  static const Abs next = reinterpret_cast<Abs>(dlsym(RTLD_NEXT, "abs"));
  return next == &abs || next == nullptr ? -1 : next(value) + 1000;
}
