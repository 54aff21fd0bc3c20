// SPDX-License-Identifier: Apache-2.0
// Keeps a session from ever being much slower than one node, while its plans come and go: what is
// promised is at least 0.97 of the speed of one node over any 20 Runs.
//
// It is an account of the last Runs in units of one Run on one node: what slower ones lose adds up,
// what quicker ones gain pays for those before them, and no gain is put by. At most 0.6 = 20 / 0.97
// - 20 may be lost. A plan in use is given up with 0.25 lost, because its next frame may lose 0.2
// more, and the machine's noise as much again. Whatever is to be tried asks first how much room is
// left. A frame that nothing moves in any more is given up as soon as it has used the room, or a
// tenth more than is expected of it; one that moves on, and fast enough (part.h), is waited for, up
// to 1.5, because to begin it anew costs a whole Run. Pure; not thread-safe.
#pragma once

#include <deque>

namespace outboard::split::exec {

class Guard {
 public:
  // What a Run takes on one node, from now on.
  void one_node_takes(double us) { single_us_ = us; }
  double one_node_us() const { return single_us_; }

  void run_took(double us);
  // One on this node, beside which something else had this share of its processor.
  void own_run_beside(double share);

  double lost() const;  // of late, in Runs of one node
  double room() const;  // what may still be lost, above 0 or not
  bool spent() const;   // a plan that goes on losing is to be given up

  // What becomes of the frames of a plan in use. Of one that comes to nothing the Run is entered
  // first; where that spends the account, no other frame may begin until it is forgotten, and with
  // the second in a row the plan is to be given up.
  void frame_lost() { ++lost_frames_; }
  void frame_came() { lost_frames_ = 0; }  // or there is another plan
  bool may_begin() const { return lost_frames_ == 0 || !spent(); }
  bool is_lost() const { return lost_frames_ > 1; }

  struct Budget {
    double us = 0;          // a frame is given up from here on once nothing has moved in it
    double silence_us = 0;  // for so long
    double longest_us = 0;  // and any other here
  };
  // Of a frame that is expected to take so long, and its longest call.
  Budget budget(double expected_us, double call_us) const;

 private:
  double single_us_ = 0;
  std::deque<double> losses_;  // of the last 19 Runs, negative where one gained
  int lost_frames_ = 0;        // in a row
};

}  // namespace outboard::split::exec
