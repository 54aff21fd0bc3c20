// SPDX-License-Identifier: Apache-2.0
#include "base/own_thread.h"

#include <sys/resource.h>
#include <unistd.h>

namespace outboard {

void be_nice(int levels) {
  const int first = ::getpriority(PRIO_PROCESS, static_cast<id_t>(::getpid()));
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), first + levels);
}

}  // namespace outboard
