// SPDX-License-Identifier: Apache-2.0
// Work that shall not slow what else this process does.
#pragma once

#include <future>
#include <thread>
#include <type_traits>
#include <utility>

namespace outboard {

// Gives the calling thread a smaller share of a processor than this process's first thread has, by
// so many levels of nice(1): nineteen leave it a sixtieth of what that one gets. It holds for the
// thread and for those that it starts, and for ever: only the privileged may go back. A system that
// refuses is no reason to stop.
void be_nice(int levels);

// What `work` returns, done by a thread of its own, which may be nice although its caller is not.
template <class Work>
std::invoke_result_t<Work> on_own_thread(Work&& work) {
  std::packaged_task<std::invoke_result_t<Work>()> task(std::forward<Work>(work));
  auto done = task.get_future();
  std::thread(std::move(task)).join();
  return done.get();
}

}  // namespace outboard
