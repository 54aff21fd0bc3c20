// SPDX-License-Identifier: Apache-2.0
// The exact optimum of a small placement, to measure others against: set packing over all feasible
// sets of residents, solved by CBC (through its C interface; nothing outside bench and tests needs
// it, so that the product carries no solver).
//
// For every group of equal devices all subsets of the applications are enumerated and checked; then
//   max sum_S |S| x_S,  every application in at most one chosen S, at most as many S as devices.
#pragma once

#include <cstddef>
#include <vector>

#include "manage/place/check.h"
#include "manage/place/fleet.h"
#include "manage/place/judge.h"

namespace outboard::bench {

struct Optimum {
  std::size_t placed = 0;
  std::size_t feasible_sets = 0;  // columns
  bool proven = false;            // CBC closed the gap
};

// REQUIRES: at most 16 applications (all of the fleet's), none placed, no pins, groups or replicas.
Optimum optimum(manage::Fleet& fleet, manage::Judge& judge, const manage::Promise& promise);

}  // namespace outboard::bench
