// SPDX-License-Identifier: Apache-2.0
// A GPU that only the server has, as the program sees it: its execution providers are in the list
// of those that there are, they can be appended to session options with options of their own, and
// memory of theirs is host memory. What a program says of them is marked in its session options
// (option_marks.h) and goes to the server with the session.
//
// Where the program's own library can do it, its own functions answer; they are always asked first.
// Thread-safe. Statuses are the caller's; nullptr is success.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "intercept/onnxruntime/runtime.h"

namespace outboard::intercept::onnxruntime {

inline constexpr const char* kCudaProvider = "CUDAExecutionProvider";
inline constexpr const char* kTensorRtProvider = "TensorrtExecutionProvider";

using ProviderSettings = std::map<std::string, std::string>;

// The library's own providers, and before them those that only the server has.
std::vector<std::string> available_providers(const Runtime& runtime);
// Whether the server has a GPU that this library cannot use.
bool is_gpu_emulated(const Runtime& runtime);
// `own`: what the library's own append said, taken over. Success when the library or the server has
// the provider; it is then marked.
OrtStatus* append_provider(Runtime& runtime, OrtSessionOptions* options, std::string_view name,
                           const ProviderSettings& settings, OrtStatus* own);
// "CUDA", "CUDAExecutionProvider" and the like as the server's list has them.
std::string full_provider_name(std::string_view name);

ProviderSettings settings_of(std::span<const char* const> keys,
                             std::span<const char* const> values);
ProviderSettings settings_of(const OrtCUDAProviderOptions& options);
ProviderSettings settings_of(const OrtTensorRTProviderOptions& options);
ProviderSettings parse_settings(std::string_view text);  // "key=value;key=value"

// Options objects that the library could not make, because it has no such provider. Some programs
// (Node's) write the device's number into the first bytes, so they are larger than any release's.
class ProviderOptions {
 public:
  static void* make();
  // nullptr: not one of ours.
  static ProviderOptions* find(const void* pointer);
  static bool release(void* pointer);  // false: not one of ours

  void update(const ProviderSettings& settings);
  ProviderSettings settings() const;  // with the device's number, however it was set
  std::string text() const;           // "key=value;key=value"

 private:
  alignas(16) std::byte block_[4096] = {};
  ProviderSettings settings_;
};

// Memory of a GPU that is emulated is host memory: the name to use in place of `name`.
const char* memory_name(const Runtime& runtime, const char* name);

}  // namespace outboard::intercept::onnxruntime
