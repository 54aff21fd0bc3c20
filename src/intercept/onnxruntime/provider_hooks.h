// SPDX-License-Identifier: Apache-2.0
// The functions of ours in the program's API table that concern execution providers and the memory
// of their devices. Thread-safe.
#pragma once

#include "intercept/onnxruntime/runtime.h"

namespace outboard::intercept::onnxruntime {

// Puts them into `table`, the table of `runtime`, for the life of the process.
void write_provider_hooks(Runtime& runtime, OrtApi& table);

// What the functions do that only a library with a GPU provider exports. `own`: what the library's
// own function said, if `has_own`.
OrtStatus* append_legacy_provider(Runtime& runtime, OrtSessionOptions* options,
                                  const char* provider, int device, OrtStatus* own, bool has_own);

}  // namespace outboard::intercept::onnxruntime
