// SPDX-License-Identifier: Apache-2.0
// What a person needs to know of a decision: sentences, and what would have done.
//
// Pure. Thread-safety: as the Placer that is asked.
#pragma once

#include <string>

#include "manage/place/decision.h"
#include "manage/place/placer.h"

namespace outboard::manage {

// For an application that was refused: the highest rate and the loosest limit that fit somewhere as
// things are (each was checked and fits; between a fit and a failure a bisection of 12 steps
// decides), which kinds of device would do when one more of them stood idle, and up to two moves
// that would make room. Looks at the `nearest` devices of the refusal for rate and limit.
// REQUIRES: the application is in the fleet and not placed. The fleet is as before afterwards.
Advice advise(Placer& placer, AppId app, const Decision& refusal, std::size_t nearest = 4);

// "gate is on tpu-0: its p95 is 83.1 ms, 116.9 ms below its limit (200 ms)." and so on, a sentence
// a line, the tightest resident last; or the refusal with its reason and advice.
std::string sentences(const Decision& decision);
// One obstacle: "on tpu-0 the p95 of cam would be 214.0 ms, 14.0 ms over its limit (200 ms),
// because of the swap (+21.5 ms in the mean)".
std::string sentence(const Obstacle& obstacle, const std::string& newcomer);

}  // namespace outboard::manage
