// SPDX-License-Identifier: Apache-2.0
// The bodies of the hooks for creating and running sessions; hooks.cc binds them to a runtime.
// Thread-safe. They return what the library's own function would, statuses owned by the caller.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <functional>

#include "intercept/onnxruntime/create_session.h"
#include "intercept/onnxruntime/runtime.h"

namespace outboard::intercept::onnxruntime {

OrtStatus* create_session(Runtime& runtime, const OrtEnv* env, const ModelSource& source,
                          const OrtSessionOptions* options, const OpenOriginal& original,
                          OrtSession** out);

// Opens a prepared stub with options like the program's.
Result<OrtSession*> open_stub(Runtime& runtime, const OrtEnv* env, const Prepared& prepared,
                              const OrtSessionOptions* options);

struct RunArguments {
  OrtSession* session;
  const OrtRunOptions* options;
  const char* const* input_names;
  const OrtValue* const* inputs;
  std::size_t input_count;
  const char* const* output_names;
  std::size_t output_count;
  OrtValue** outputs;
};
OrtStatus* run_session(Runtime& runtime, const RunArguments& arguments);
OrtStatus* run_session_async(Runtime& runtime, const RunArguments& arguments,
                             RunAsyncCallbackFn callback, void* user_data);
OrtStatus* run_session_with_binding(Runtime& runtime, OrtSession* session,
                                    const OrtRunOptions* options, const OrtIoBinding* binding);

OrtStatus* end_profiling(Runtime& runtime, OrtSession* session, OrtAllocator* allocator,
                         char** out);
void release_session(Runtime& runtime, OrtSession* session);

}  // namespace outboard::intercept::onnxruntime
