// SPDX-License-Identifier: Apache-2.0
// A thread that ends its computation hands its core to the thread that computes next.
//
// Where as many threads compute as there are cores, the system puts a thread that wakes on the core
// where it slept last, though another thread computes there and the waker's own core is about to be
// idle, and it may take some milliseconds to see that: with four callers of a Run of 9 ms on two
// cores, an eighth of the cores' time was lost (docs/benchmarks.md). So the waker binds the sleeper
// to its own core before it wakes it, and the woken thread unbinds itself.
//
// One waits at a time. waits() and woken() are called by the thread that waits, give_this_core() by
// any, between the two and never at the same time as either.
#pragma once

#include <sched.h>
#include <sys/types.h>

namespace outboard::serve {

class CoreHandover {
 public:
  void waits();  // before it sleeps
  // Nothing where the sleeper may not run on this core, or the system does not allow it.
  void give_this_core();
  void woken();  // first of all

 private:
  pid_t thread_ = 0;
  bool moved_ = false;
  cpu_set_t cores_{};  // where it may run
};

}  // namespace outboard::serve
