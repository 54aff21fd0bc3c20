// SPDX-License-Identifier: Apache-2.0
// A copy of ONNX Runtime in this process and its API table as it was before we touched it.
//
// Thread-safe once made; never destroyed. A process may hold several copies (a linked library and
// the one inside Python's extension); each has a Runtime of its own.
#pragma once

#include <onnxruntime_c_api.h>

#include <string>

#include "base/result.h"

namespace outboard::intercept::onnxruntime {

// The oldest release whose operators can report errors (KernelComputeV2).
inline constexpr std::uint32_t kMinimumApi = 16;
inline constexpr int kMaxRuntimes = 4;

struct Runtime {
  int index = 0;
  std::string version;            // "1.31.1"
  std::uint32_t api_version = 0;  // 31
  const OrtApiBase* base = nullptr;
  // The library's own functions. Of releases older than our headers only the slots they have.
  OrtApi ort{};
};

// The runtime behind `base`, made at its first use. nullptr for one that is too old, or one too
// many: then it is left alone (logged once).
Runtime* runtime_of(const OrtApiBase* base);

// Turns a status into an Error with the library's own code and message, and frees it.
Error to_error(const Runtime& runtime, OrtStatus* status);
// nullptr for no error; the caller owns it.
OrtStatus* to_status(const Runtime& runtime, const Error& error);

}  // namespace outboard::intercept::onnxruntime

// Evaluates an ORT call; returns its error from the enclosing function, which returns a Result.
#define OB_ORT(runtime, call)                                       \
  do {                                                              \
    if (OrtStatus* ob_ort_status = (call))                          \
      return tl::make_unexpected(to_error(runtime, ob_ort_status)); \
  } while (false)
