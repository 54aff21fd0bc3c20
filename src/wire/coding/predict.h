// SPDX-License-Identifier: Apache-2.0
// Predicts each byte of a picture from those to its left (l), above (a) and above left (c), and
// keeps the difference modulo 256: mostly small numbers, which an entropy coder likes. The
// prediction is the median of l, a and l + a - c (LOCO-I, Weinberger, Seroussi, Sapiro 2000). The
// first row knows only the left, the first `stride` bytes of a row only what is above; where there
// is neither it is 0. Exact for any bytes. Pure; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace outboard::wire {

// `stride`: distance to the same channel of the next pixel; `row` bytes a row, at least `stride`.
// The last row may be short. `residuals` has the size of `pixels`; they do not overlap.
void predict(std::span<const std::uint8_t> pixels, std::size_t stride, std::size_t row,
             std::span<std::uint8_t> residuals);
// The inverse, in place.
void unpredict(std::span<std::uint8_t> bytes, std::size_t stride, std::size_t row);

}  // namespace outboard::wire
