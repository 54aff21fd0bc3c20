// SPDX-License-Identifier: Apache-2.0
#include "split/exec/guard.h"

#include <algorithm>
#include <numeric>

namespace outboard::split::exec {
namespace {

constexpr std::size_t kWindow = 20;
constexpr double kMayLose = 0.6;  // 20 / 0.97 - 20, less a little
constexpr double kGiveUp = 0.35;  // what one more frame may lose is left
constexpr double kRoom = 1.1;     // over what the plan took when it was tried
constexpr double kLongest = 1.25;

}  // namespace

double Guard::earned() const { return std::accumulate(gains_.begin(), gains_.end(), 0.0); }

double Guard::budget_us() const {
  const double least = kRoom * tried_us_;
  return std::clamp((kMayLose + earned()) * single_us_, least,
                    std::max(kLongest * single_us_, least));
}

bool Guard::frame_took(double us) {
  gains_.push_back((single_us_ - us) / single_us_);
  if (gains_.size() >= kWindow) gains_.pop_front();
  lost_ = std::max(0.0, lost_ - gains_.back());
  return lost_ < kGiveUp;
}

}  // namespace outboard::split::exec
