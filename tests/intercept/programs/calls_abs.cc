// SPDX-License-Identifier: Apache-2.0
// Never touches ONNX Runtime; prints what abs(-7) is, which a preloaded library may change.
#include <cstdio>
#include <cstdlib>

int main() {
  volatile int value = -7;
  int (*volatile function)(int) = &std::abs;
  std::printf("%d\n", function(value));
}
