// SPDX-License-Identifier: Apache-2.0
// OpenOptions and a device as ONNX Runtime's session options.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/onnxruntime/library.h"

namespace outboard::engine {

inline constexpr std::string_view kCpuProvider = "CPUExecutionProvider";
inline constexpr std::string_view kCudaProvider = "CUDAExecutionProvider";
inline constexpr std::string_view kTensorRtProvider = "TensorrtExecutionProvider";

struct Device {
  bool cuda = false;
  int index = 0;
};

// "cpu" or "cuda:N"; kInvalid otherwise.
Result<Device> parse_device(std::string_view text);

// With the device's execution provider appended, and before it TensorRT where the options name it.
// kEngine when the library cannot use the device.
Result<Owned<OrtSessionOptions>> make_session_options(const Library& library, const Device& device,
                                                      const OpenOptions& options);

// Adds the shared tensors to session options; what is returned must outlive the session.
Result<std::vector<Owned<OrtValue>>> add_shared_tensors(const Library& library,
                                                        OrtSessionOptions* target,
                                                        const std::vector<SharedTensor>& tensors);

}  // namespace outboard::engine
