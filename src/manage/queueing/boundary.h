// SPDX-License-Identifier: Apache-2.0
// The idle probabilities of the queue with swaps, from its kernel (see swap_queue.cc): what keeps
// the solution bounded.
//
// A kernel gives, for a real x in [0, top], d_j(x) and c_j(x) of every model: d_j(0) > 0 >=
// d_j(top), c_j > 0. The solution has the factor 1 / (1 - sum_j c_j / d_j), whose K - 1 zeros in
// (0, top) must be cancelled: sum_j w_j / d_j = 0 at each. They lie between the zeros of the d_j,
// one in each gap (the matrix c 1' + diag is similar to a symmetric one, so its eigenvalues are
// real and interlace), which makes finding them safe and fast.
// Pure; thread-safe.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "manage/queueing/root.h"

namespace outboard::manage {

// Solves a x = b in place by elimination with partial pivoting; a is n x n by rows. False when
// singular.
bool solve_linear(std::vector<double>& a, std::vector<double>& b);

// Kernel: `std::size_t size()`, `double d(std::size_t j, double x)` and
// `void all(double x, double* d, double* c)`. Returns w with the given sum; empty when the system
// is singular or a w_j comes out negative beyond rounding (a bug or a hopeless scale).
template <typename Kernel>
std::vector<double> boundary(const Kernel& kernel, double top, double sum) {
  const std::size_t k = kernel.size();
  if (k == 1) return {sum};
  std::vector<double> d(k), c(k), pole(k), share(k);
  for (std::size_t j = 0; j < k; ++j) {
    const double at_top = kernel.d(j, top);
    pole[j] = at_top > -1e-13 * top ? top
                                    : find_root([&](double x) { return kernel.d(j, x); }, 0,
                                                kernel.d(j, 0), top, at_top, 1e-14 * top);
  }
  std::vector<std::size_t> order(k);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return pole[a] < pole[b]; });
  // Models whose poles coincide act as one; within it w_j is proportional to c_j at the pole.
  std::vector<std::size_t> first{0};
  for (std::size_t i = 1; i < k; ++i) {
    if (pole[order[i]] - pole[order[i - 1]] > 1e-9 * top) first.push_back(i);
  }
  const std::size_t groups = first.size();
  first.push_back(k);
  for (std::size_t g = 0; g < groups; ++g) {
    kernel.all(pole[order[first[g]]], d.data(), c.data());
    double total = 0;
    for (std::size_t i = first[g]; i < first[g + 1]; ++i) total += c[order[i]];
    for (std::size_t i = first[g]; i < first[g + 1]; ++i) share[order[i]] = c[order[i]] / total;
  }
  std::vector<double> rows(groups * groups), right(groups, 0.0);
  for (std::size_t g = 0; g + 1 < groups; ++g) {
    const std::size_t below = order[first[g + 1] - 1], above = order[first[g + 1]];
    // 1 - sum c/d, times the two d that vanish at the ends.
    auto cleared = [&](double x) {
      kernel.all(x, d.data(), c.data());
      double f = 1;
      for (std::size_t j = 0; j < k; ++j) {
        if (j != below && j != above) f -= c[j] / d[j];
      }
      return f * d[below] * d[above] - c[below] * d[above] - c[above] * d[below];
    };
    const double left = pole[below], end = pole[above];
    const double x = find_root(cleared, left, cleared(left), end, cleared(end), 1e-15 * top);
    kernel.all(x, d.data(), c.data());
    double scale = 0;
    for (std::size_t h = 0; h < groups; ++h) {
      double sum_h = 0;
      for (std::size_t i = first[h]; i < first[h + 1]; ++i) sum_h += share[order[i]] / d[order[i]];
      rows[g * groups + h] = sum_h;
      scale = std::max(scale, std::abs(sum_h));
    }
    for (std::size_t h = 0; h < groups; ++h) rows[g * groups + h] /= scale;
  }
  for (std::size_t h = 0; h < groups; ++h) rows[(groups - 1) * groups + h] = 1;
  right[groups - 1] = sum;
  if (!solve_linear(rows, right)) return {};
  std::vector<double> w(k);
  for (std::size_t g = 0; g < groups; ++g) {
    if (!(right[g] > -1e-9 * sum)) return {};
    for (std::size_t i = first[g]; i < first[g + 1]; ++i) {
      w[order[i]] = std::max(0.0, right[g]) * share[order[i]];
    }
  }
  return w;
}

}  // namespace outboard::manage
