// SPDX-License-Identifier: Apache-2.0
// Opening what is open already, where no file can be opened. ONNX Runtime writes its optimised
// model to a path only; that of a memory file is "/proc/self/fd/N". In a narrow sandbox the kernel
// opens nothing: it sends the thread that calls openat a SIGSYS instead, and what is here answers
// in its place, in the process: with a copy of descriptor N for such a path, and with EPERM for
// every other one. So nothing is opened by the kernel for whoever has taken the process over.
// A copy shares its place in the file, and neither flags nor mode are looked at.
#pragma once

namespace outboard::serve {

// Takes over SIGSYS. false: not on this architecture; then openat is to fail like every other call.
bool answer_openings();

// N of "/proc/self/fd/N"; -1: another path. Pure, and may be called in a signal handler.
int descriptor_of(const char* path);

}  // namespace outboard::serve
