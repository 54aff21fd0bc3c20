// SPDX-License-Identifier: Apache-2.0
// Threads of ours in a process that is somebody else's.
#pragma once

#include <functional>

namespace outboard {

// Does `work` on a thread of its own that nobody waits for, called "outboard". The program's
// signals are for the program's threads: none of them comes to this one.
void start_in_background(std::function<void()> work);

}  // namespace outboard
