// SPDX-License-Identifier: Apache-2.0
#include "serve/core_handover.h"

#include <unistd.h>

namespace outboard::serve {

void CoreHandover::waits() {
  thread_ = ::gettid();
  moved_ = false;
}

void CoreHandover::give_this_core() {
  const int core = ::sched_getcpu();
  if (core < 0 || core >= CPU_SETSIZE) return;
  if (::sched_getaffinity(thread_, sizeof cores_, &cores_) != 0 || !CPU_ISSET(core, &cores_))
    return;
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(core, &here);
  moved_ = ::sched_setaffinity(thread_, sizeof here, &here) == 0;
}

void CoreHandover::woken() {
  if (moved_) ::sched_setaffinity(0, sizeof cores_, &cores_);
}

}  // namespace outboard::serve
