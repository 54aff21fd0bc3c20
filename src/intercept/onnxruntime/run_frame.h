// SPDX-License-Identifier: Apache-2.0
// What the hook of a Run knows and the stub's kernel cannot see: which outputs are wanted, the
// program's run options, and how the kernel's own error gets out unchanged. The kernel works on the
// thread of the Run, so it is passed by a thread-local stack of frames.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "wire/client.h"

namespace outboard::intercept::onnxruntime {

struct RunFrame {
  RunFrame();
  ~RunFrame();
  RunFrame(const RunFrame&) = delete;
  RunFrame& operator=(const RunFrame&) = delete;
  static RunFrame* innermost();  // of this thread; nullptr outside any Run

  // Wanted outputs by name or by position among the model's; neither: all.
  std::span<const char* const> output_names;
  std::optional<std::span<const std::uint32_t>> output_indices;
  const OrtRunOptions* options = nullptr;
  wire::CancelToken* cancel = nullptr;
  std::optional<Error> error;  // set by the kernel

 private:
  RunFrame* outer_;
};

// The last error of a kernel on this thread outside any frame (Python), taken once.
void set_last_error(const Error& error);
std::optional<Error> take_last_error();

}  // namespace outboard::intercept::onnxruntime
