// SPDX-License-Identifier: Apache-2.0
// Row ranges, and how the rows of an operator's output depend on the rows of its input.
// "Rows" are positions along a tensor's split axis: H of an image, tokens of a sequence, output
// columns of a fully connected layer. All ranges are half open and 0-based. Pure values.
#pragma once

#include <algorithm>
#include <cstdint>

namespace outboard::split {

struct Rows {
  int lo = 0;
  int hi = 0;

  bool empty() const { return hi <= lo; }
  int count() const { return empty() ? 0 : hi - lo; }
  bool contains(Rows r) const { return r.empty() || (lo <= r.lo && r.hi <= hi); }
  bool operator==(const Rows&) const = default;
};

inline Rows intersect(Rows a, Rows b) {
  const Rows r{std::max(a.lo, b.lo), std::min(a.hi, b.hi)};
  return r.empty() ? Rows{} : r;
}

// The smallest range that holds both.
inline Rows hull(Rows a, Rows b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
}

inline int floor_div(std::int64_t a, std::int64_t b) {  // b > 0
  return static_cast<int>(a >= 0 ? a / b : -((-a + b - 1) / b));
}

// Output rows [a, b) need input rows
//   [ floor((a*num + lo_add) / den), floor(((b-1)*num + hi_add) / den) + 1 ),
// what falls outside of the tensor being padding. A convolution with kernel k, stride s, dilation d
// and top pad p: num = s, lo_add = -p, hi_add = d(k-1) - p. A transposed one: num = 1, den = s,
// lo_add = p - d(k-1) + s-1, hi_add = p. `fixed`: any output row needs exactly the input rows
// [lo_add, hi_add), e.g. all of them.
struct RowMap {
  int num = 1;
  int den = 1;
  int lo_add = 0;
  int hi_add = 0;
  bool fixed = false;

  static RowMap identity() { return {}; }
  static RowMap whole(int rows) { return {1, 1, 0, rows, true}; }

  bool is_identity() const { return !fixed && num == den && lo_add == 0 && hi_add == 0; }

  // May reach outside of the tensor, where there is padding.
  Rows unclamped(Rows out) const {
    if (out.empty()) return {};
    if (fixed) return {lo_add, hi_add};
    return {floor_div(std::int64_t{out.lo} * num + lo_add, den),
            floor_div((std::int64_t{out.hi} - 1) * num + hi_add, den) + 1};
  }
  // At least one row where the output is not empty, even when it depends on padding alone.
  Rows needs(Rows out, int in_rows) const {
    if (out.empty()) return {};
    const Rows r = unclamped(out);
    const int lo = std::clamp(r.lo, 0, in_rows - 1);
    return {lo, std::clamp(r.hi, lo + 1, in_rows)};
  }
};

}  // namespace outboard::split
