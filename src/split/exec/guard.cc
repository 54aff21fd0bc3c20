// SPDX-License-Identifier: Apache-2.0
#include "split/exec/guard.h"

#include <algorithm>
#include <cstddef>

namespace outboard::split::exec {
namespace {

constexpr std::size_t kWindow = 20;
constexpr double kMayLose = 0.6;   // 20 / 0.97 - 20, less a little
constexpr double kGiveUp = 0.25;   // what one more frame may lose is left, and some noise
constexpr double kExpected = 1.1;  // a frame that was given up sooner would be one in vain
constexpr double kLongest = 1.5;
constexpr double kSilence = 0.25,
                 kCalls = 3;  // the longest call, on a node at a third of its speed

}  // namespace

void Guard::run_took(double us) {
  if (single_us_ <= 0) return;
  losses_.push_back((us - single_us_) / single_us_);
  if (losses_.size() >= kWindow) losses_.pop_front();
}

void Guard::own_run_beside(double share) { run_took(single_us_ * (1 + share)); }

// The worst of the windows that the next Run may end.
double Guard::lost() const {
  double sum = 0, worst = 0;
  for (auto loss = losses_.rbegin(); loss != losses_.rend(); ++loss) {
    sum += *loss;
    worst = std::max(worst, sum);
  }
  return worst;
}

double Guard::room() const { return kMayLose - lost(); }

bool Guard::spent() const { return lost() >= kGiveUp; }

Guard::Budget Guard::budget(double expected_us, double call_us) const {
  const double least = kExpected * expected_us;
  return {std::max(room() * single_us_, least), std::max(kSilence * single_us_, kCalls * call_us),
          std::max(kLongest * single_us_, least)};
}

}  // namespace outboard::split::exec
