// SPDX-License-Identifier: Apache-2.0
// The functions of ours that stand in the program's API table. Thread-safe.
#pragma once

#include "intercept/onnxruntime/runtime.h"

namespace outboard::intercept::onnxruntime {

// Patches the runtime's one table in place, once: whatever version a program asks for, GetApi()
// returns a pointer to it. Calls through it reach us from then on.
void install_hooks(Runtime& runtime);

}  // namespace outboard::intercept::onnxruntime
