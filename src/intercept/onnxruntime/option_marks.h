// SPDX-License-Identifier: Apache-2.0
// What a program has set on its session options, where ONNX Runtime has a setter and no getter:
// recorded in the options object itself as configuration entries "outboard.*", so that it is cloned
// and freed with it. The C API's hooks and the Python side write the same marks.
// As thread-safe as the options object.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "intercept/onnxruntime/runtime.h"
#include "wire/messages.h"

namespace outboard::intercept::onnxruntime {

namespace marks {
inline constexpr const char* kOptimizationLevel = "outboard.graph_optimization_level";
inline constexpr const char* kExecutionMode = "outboard.execution_mode";
inline constexpr const char* kIntraOpThreads = "outboard.intra_op_threads";
inline constexpr const char* kStaysLocal = "outboard.stays_local";  // a reason
// Lists: "NAME.count", then "NAME.0" and so on.
inline constexpr const char* kConfigKeys = "outboard.config_key";
inline constexpr const char* kFreeDimensions = "outboard.free_dimension";  // "n:SIZE:NAME", "d:..."
}  // namespace marks

void mark(const Runtime& runtime, OrtSessionOptions* options, const char* name,
          std::string_view value);
void mark_in_list(const Runtime& runtime, OrtSessionOptions* options, const char* list,
                  std::string_view value);
std::optional<std::string> read_entry(const Runtime& runtime, const OrtSessionOptions* options,
                                      const char* name);

// What a session's options mean for Outboard.
struct OptionsRead {
  wire::SessionOptions wire;
  std::string why_local;             // not empty: sessions with these options cannot go out
  int intra_op_threads = 0;          // 0: the program did not say
  std::string external_data_folder;  // for models from memory
};
OptionsRead read_options(const Runtime& runtime, const OrtSessionOptions* options);

}  // namespace outboard::intercept::onnxruntime
