// SPDX-License-Identifier: Apache-2.0
// Keeps a split session from ever being much slower than one node: how long a frame may take before
// it is computed on one node instead, and when a plan is to be given up. What is promised: over any
// 20 frames at least 0.97 of the speed of one node, as long as a plan that was given up is not
// tried again within 20 frames.
//
// The rule is an account of time, in units of one frame on one node. What slower frames lose adds
// up and what quicker ones gain pays it back, but no gain is put by: with 0.35 lost the plan is
// given up. As no frame of a plan takes more than 1.25 frames (or a tenth more than when it was
// tried), at most 0.6 = 20 / 0.97 - 20 is lost by then. A frame that does not end within its budget
// is lost time by itself: the budget, which is small until the plan has earned as much. Pure.
#pragma once

#include <deque>

namespace outboard::split::exec {

class Guard {
 public:
  // What a frame takes on one node, and what it took by the plan when it was tried.
  Guard(double single_us, double tried_us) : single_us_(single_us), tried_us_(tried_us) {}

  // How long the next frame may take.
  double budget_us() const;
  // A frame that took so long. False: the plan is to be given up.
  bool frame_took(double us);

 private:
  double earned() const;  // over the last 19 frames

  double single_us_, tried_us_;
  std::deque<double> gains_;  // by frame, in frames of one node
  double lost_ = 0;
};

}  // namespace outboard::split::exec
