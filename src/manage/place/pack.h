// SPDX-License-Identifier: Apache-2.0
// Places a whole list at once, when the order is free: as many applications as can be.
//
// Greedy in several orders (least work first, loosest first, most copies of a model first, by
// name), with devices filled tightly and evenly; the best of these is then improved: a newcomer
// takes the place of a resident of this list if the resident, or one more besides, finds another
// place (one out, two in), as long as that gains and `judged_most` answers of the judge are not
// used up. What was on the fleet before stays where it is, unless the options allow moves.
// Deterministic. Pure. Thread-safety: as Placer.
#pragma once

#include <functional>
#include <vector>

#include "manage/place/placer.h"

namespace outboard::manage {

struct PackOptions {
  PlacerOptions placer;
  std::size_t rounds = 6;  // of improvement
  // Called now and then with what was done and what there is to do, in steps.
  std::function<void(std::size_t, std::size_t)> progress;
};

struct Packed {
  std::vector<AppId> placed;   // by name
  std::vector<AppId> refused;  // by name
};

// REQUIRES: none of `apps` is placed.
Packed pack(Fleet& fleet, Judge& judge, std::vector<AppId> apps, const PackOptions& options);

}  // namespace outboard::manage
