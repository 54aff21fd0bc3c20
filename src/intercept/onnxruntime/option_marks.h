// SPDX-License-Identifier: Apache-2.0
// What a program has set on its session options, where ONNX Runtime has a setter and no getter:
// recorded in the options object itself as configuration entries "outboard.*", so that it is cloned
// and freed with it. A mark is a list, "NAME.0", "NAME.1" and so on, because the library warns when
// an entry is overwritten; where only one value can hold, it is the last. The C API's hooks and the
// Python side write the same marks.
// As thread-safe as the options object.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "intercept/onnxruntime/runtime.h"
#include "wire/messages.h"

namespace outboard::intercept::onnxruntime {

namespace marks {
inline constexpr const char* kOptimizationLevel = "outboard.graph_optimization_level";
inline constexpr const char* kExecutionMode = "outboard.execution_mode";
inline constexpr const char* kIntraOpThreads = "outboard.intra_op_threads";
inline constexpr const char* kStaysLocal = "outboard.stays_local";  // a reason
inline constexpr const char* kProfiling = "outboard.profiling";     // "1" or "0"
inline constexpr const char* kConfigKeys = "outboard.config_key";
inline constexpr const char* kFreeDimensions = "outboard.free_dimension";  // "n:SIZE:NAME", "d:..."
// Execution providers; the options of the i-th, "KEY=VALUE", in "outboard.provider_option.i". An
// empty name: those before it do not count any more.
inline constexpr const char* kProviders = "outboard.provider";
inline constexpr const char* kProviderOptions = "outboard.provider_option";
}  // namespace marks

// Adds a value, unless it is the last one already.
void mark(const Runtime& runtime, OrtSessionOptions* options, const std::string& name,
          std::string_view value);
std::vector<std::string> marks_of(const Runtime& runtime, const OrtSessionOptions* options,
                                  const std::string& name);
// A provider that a session shall have at the server.
void mark_provider(const Runtime& runtime, OrtSessionOptions* options, std::string_view name,
                   const std::map<std::string, std::string>& settings);

std::optional<std::string> read_entry(const Runtime& runtime, const OrtSessionOptions* options,
                                      const char* name);

// What a session's options mean for Outboard.
struct OptionsRead {
  wire::SessionOptions wire;
  std::string why_local;             // not empty: sessions with these options cannot go out
  int intra_op_threads = 0;          // 0: the program did not say
  bool profiling = false;            // the library writes a profile
  std::string external_data_folder;  // for models from memory
};
OptionsRead read_options(const Runtime& runtime, const OrtSessionOptions* options);

}  // namespace outboard::intercept::onnxruntime
