// SPDX-License-Identifier: Apache-2.0
#include "base/background.h"

#include <pthread.h>

#include <csignal>
#include <thread>
#include <utility>

namespace outboard {

void start_in_background(std::function<void()> work) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);  // which the new thread inherits
  std::thread([work = std::move(work)] {
    pthread_setname_np(pthread_self(), "outboard");
    work();
  }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace outboard
