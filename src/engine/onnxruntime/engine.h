// SPDX-License-Identifier: Apache-2.0
// ONNX Runtime as an Engine. The library is loaded at run time, so that one binary works with the
// CPU build and the CUDA build, 1.10 and later. Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "engine/engine.h"

namespace outboard::engine {

struct OnnxRuntimeOptions {
  // The library's path. Empty: $OUTBOARD_ORT_LIBRARY, else what find_onnxruntime_library() finds.
  std::string library{};
  std::string device = "cpu";  // "cpu" or "cuda:N"
  // One pool for all sessions, which is what a server wants; the first engine of a process decides.
  // Otherwise each session has its own.
  bool shared_threads = false;
  int threads = 0;  // of the shared pool; 0: the library's choice (one a core)
  // Whether idle threads of the pools spin before they sleep.
  bool spin = false;
};

// kNotFound: no library, with where it was looked for; kInvalid: no library of ONNX Runtime, one
// older than 1.10, or a device that is none of the above; kEngine: the device cannot be used.
Result<std::unique_ptr<Engine>> load_onnxruntime(const OnnxRuntimeOptions& options);

// Where the library is looked for, in this order:
//   1. $VIRTUAL_ENV and $CONDA_PREFIX: lib/python3*/site-packages/onnxruntime/capi
//   2. deps/venv/lib/python3*/... of the folders above the program (a build folder)
//   3. Python's own folders: ~/.local/lib, /usr/local/lib, /usr/lib, with site- and dist-packages
//   4. what the dynamic linker knows as libonnxruntime.so.1 or libonnxruntime.so (ldconfig,
//      LD_LIBRARY_PATH)
// The newest version wins inside one place. kNotFound lists the places.
Result<std::string> find_onnxruntime_library();

}  // namespace outboard::engine
