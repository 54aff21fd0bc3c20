// SPDX-License-Identifier: Apache-2.0
#include "manage/queueing/boundary.h"

namespace outboard::manage {

bool solve_linear(std::vector<double>& a, std::vector<double>& b) {
  const std::size_t n = b.size();
  for (std::size_t column = 0; column < n; ++column) {
    std::size_t pivot = column;
    for (std::size_t row = column + 1; row < n; ++row) {
      if (std::abs(a[row * n + column]) > std::abs(a[pivot * n + column])) pivot = row;
    }
    if (!(std::abs(a[pivot * n + column]) > 0)) return false;
    if (pivot != column) {
      std::swap_ranges(a.begin() + static_cast<std::ptrdiff_t>(column * n),
                       a.begin() + static_cast<std::ptrdiff_t>((column + 1) * n),
                       a.begin() + static_cast<std::ptrdiff_t>(pivot * n));
      std::swap(b[column], b[pivot]);
    }
    for (std::size_t row = column + 1; row < n; ++row) {
      const double factor = a[row * n + column] / a[column * n + column];
      if (factor == 0) continue;
      for (std::size_t i = column; i < n; ++i) a[row * n + i] -= factor * a[column * n + i];
      b[row] -= factor * b[column];
    }
  }
  for (std::size_t row = n; row-- > 0;) {
    for (std::size_t i = row + 1; i < n; ++i) b[row] -= a[row * n + i] * b[i];
    b[row] /= a[row * n + row];
  }
  return true;
}

}  // namespace outboard::manage
