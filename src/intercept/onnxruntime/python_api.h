// SPDX-License-Identifier: Apache-2.0
// The C functions that python/outboard calls with ctypes. Python's extension module carries its own
// copy of ONNX Runtime whose table no hook reaches, so the Python side asks for a plan before it
// opens a session and opens the stub itself:
//
//   plan = outboard_plan_new()               # the next RegisterCustomOps() on this thread ...
//   options.register_custom_ops_library(us)  # ... gives it a clone of the program's options
//   if outboard_plan_prepare(plan, path, None, 0):
//       outboard_plan_attach(plan)           # the next RegisterCustomOps() on this thread ...
//       fresh.register_custom_ops_library(us)   # ... adds the stub's operator
//       ... open outboard_plan_stub(plan) with `fresh` ...
//   outboard_plan_free(plan)                 # after the session was initialised
//
// Thread-safe; a plan by one thread at a time. Strings are UTF-8; returned ones live as long as the
// plan.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdint>

#define OUTBOARD_EXPORT __attribute__((visibility("default")))

extern "C" {

// ONNX Runtime calls it when the library is registered with session options.
OUTBOARD_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);

struct OutboardPlan;
OUTBOARD_EXPORT OutboardPlan* outboard_plan_new(void) noexcept;
// 1: a stub is ready; 0: the session stays here, see why_local. `path` or (`model`, `size`).
OUTBOARD_EXPORT int outboard_plan_prepare(OutboardPlan* plan, const char* path, const void* model,
                                          std::size_t size) noexcept;
// Before outboard_plan_prepare(), to the plan's clone of the options: a provider for the server (an
// empty name: forget those before), and an entry of the session's configuration.
OUTBOARD_EXPORT void outboard_plan_provider(OutboardPlan* plan, const char* name,
                                            const char* const* keys, const char* const* values,
                                            std::size_t count) noexcept;
OUTBOARD_EXPORT void outboard_plan_config(OutboardPlan* plan, const char* key,
                                          const char* value) noexcept;
OUTBOARD_EXPORT const char* outboard_plan_why_local(OutboardPlan* plan) noexcept;
OUTBOARD_EXPORT const void* outboard_plan_stub(OutboardPlan* plan, std::size_t* size) noexcept;
OUTBOARD_EXPORT void outboard_plan_attach(OutboardPlan* plan) noexcept;
// The stub could not be opened: its session stays here for this reason.
OUTBOARD_EXPORT void outboard_plan_give_up(OutboardPlan* plan, const char* reason) noexcept;
// 1: C cannot open the original model with this release (Python's wheels up to 1.19). A Run that no
// server answers fails then with code -1, and Python opens and runs the model itself.
OUTBOARD_EXPORT int outboard_plan_program_opens(OutboardPlan* plan) noexcept;
// A Run that Python answered took this long; negative: it failed.
OUTBOARD_EXPORT void outboard_plan_local_run(OutboardPlan* plan, std::int64_t time_ns) noexcept;
// What the stub's profile will need, nullptr when none is wanted; ended once, after the library has
// written the file, which began at `start_ns`.
OUTBOARD_EXPORT void* outboard_plan_profile(OutboardPlan* plan) noexcept;
OUTBOARD_EXPORT void outboard_profile_end(void* profile, const char* path,
                                          std::uint64_t start_ns) noexcept;
OUTBOARD_EXPORT void outboard_plan_free(OutboardPlan* plan) noexcept;

// Around a Run of a stub on this thread. `outputs`: positions of the wanted outputs, nullptr: all.
// `key`: what outboard_cancel() will be called with, nullptr: never.
OUTBOARD_EXPORT void* outboard_run_begin(const std::uint32_t* outputs, std::size_t count,
                                         const void* key) noexcept;
OUTBOARD_EXPORT void outboard_run_end(void* run) noexcept;
OUTBOARD_EXPORT void outboard_cancel(const void* key) noexcept;
// The code and message of the last Run of a stub that failed on this thread, once. The message's
// length, or -1: none failed.
OUTBOARD_EXPORT std::int64_t outboard_take_error(std::int32_t* code, char* message,
                                                 std::size_t capacity) noexcept;

// The execution providers of the server, one a line; the text's length, of which at most `capacity`
// bytes are written.
OUTBOARD_EXPORT std::size_t outboard_server_providers(char* text, std::size_t capacity) noexcept;

// Writes the reports now, for processes that end without exit().
OUTBOARD_EXPORT void outboard_report(void) noexcept;
}
