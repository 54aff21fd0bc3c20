// SPDX-License-Identifier: Apache-2.0
// Whether two computations of one Run agree: a server's outputs and this machine's (--verify).
// Pure; thread-safe.
//
// Element by element: |a - b| <= absolute + relative * max(|a|, |b|), with
//
//   type      float64  float32  float16, bfloat16  float8  all others
//   relative  1e-6     1e-3     2e-2               0.25    0
//   absolute  1e-9     1e-4     2e-2               0.1     0
//
// which different processors and libraries stay within, and a flipped bit that matters does not.
// NaN is equal to NaN, an infinity to itself, and the two zeros to each other. Integers, bool and
// strings have to be the same; so do element types and shapes. The parts of a complex number are
// compared each for itself.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "intercept/common/kept_outputs.h"

namespace outboard::intercept {

struct Difference {
  std::size_t output = 0;      // position among those compared
  std::uint64_t index = 0;     // the element that differs most
  std::uint64_t elements = 0;  // how many differ
  std::string server, local;   // its values; or the types and shapes
  double by = 0;               // how far they are apart; 0: not a number
};

// The first output that differs; none: they agree.
std::optional<Difference> compare(std::span<const KeptOutputs::Output> server,
                                  std::span<const KeptOutputs::Output> local);

}  // namespace outboard::intercept
