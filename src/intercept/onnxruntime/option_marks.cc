// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/option_marks.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "base/log.h"

namespace outboard::intercept::onnxruntime {
namespace {

constexpr const char* kExternalDataFolder = "session.model_external_initializers_file_folder_path";
constexpr const char* kEpContextEnable = "ep.context_enable";

// Entries about this machine's threads, memory and files: they do not change what is computed, and
// the server has its own.
constexpr std::array<std::string_view, 16> kNotForTheServer = {
    "session.intra_op.allow_spinning",
    "session.inter_op.allow_spinning",
    "session.intra_op_thread_affinities",
    "session.force_spinning_stop",
    "session.dynamic_block_base",
    "session.use_env_allocators",
    "session.use_device_allocator_for_initializers",
    "session.use_ort_model_bytes_directly",
    "session.use_ort_model_bytes_for_initializers",
    "session.use_memory_mapped_ort_model",
    "session.save_model_format",
    "session.save_external_prepacked_constant_initializers",
    "session.optimized_model_external_initializers_file_name",
    "session.optimized_model_external_initializers_min_size_in_bytes",
    "session.debug_layout_transformation",
    kExternalDataFolder,
};

bool is_for_the_server(std::string_view key) {
  if (key.starts_with("outboard.") || key.starts_with("ep.")) return false;
  for (const std::string_view other : kNotForTheServer) {
    if (key == other) return false;
  }
  return true;
}

template <typename T>
T number(std::string_view text, T otherwise) {
  T value = otherwise;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

template <typename Visit>
void for_each_in_list(const Runtime& runtime, const OrtSessionOptions* options, const char* list,
                      Visit visit) {
  const auto count = read_entry(runtime, options, fmt::format("{}.count", list).c_str());
  for (int i = 0; i < number(count.value_or("0"), 0); ++i) {
    if (auto value = read_entry(runtime, options, fmt::format("{}.{}", list, i).c_str())) {
      visit(*value);
    }
  }
}

void read_free_dimension(std::string_view entry, wire::SessionOptions& options) {
  const std::size_t colon = entry.find(':', 2);
  if (entry.size() < 4 || colon == std::string_view::npos) return;
  auto& map =
      entry[0] == 'n' ? options.free_dimensions_by_name : options.free_dimensions_by_denotation;
  map[std::string(entry.substr(colon + 1))] = number<std::int64_t>(entry.substr(2, colon - 2), -1);
}

}  // namespace

void mark(const Runtime& runtime, OrtSessionOptions* options, const char* name,
          std::string_view value) {
  const std::string text(value);
  if (OrtStatus* status = runtime.ort.AddSessionConfigEntry(options, name, text.c_str())) {
    log_debug("option ({}) could not be recorded: {}", name, to_error(runtime, status).message);
  }
}

void mark_in_list(const Runtime& runtime, OrtSessionOptions* options, const char* list,
                  std::string_view value) {
  const std::string counter = fmt::format("{}.count", list);
  const int count = number(read_entry(runtime, options, counter.c_str()).value_or("0"), 0);
  mark(runtime, options, fmt::format("{}.{}", list, count).c_str(), value);
  mark(runtime, options, counter.c_str(), std::to_string(count + 1));
}

std::optional<std::string> read_entry(const Runtime& runtime, const OrtSessionOptions* options,
                                      const char* name) {
  int has = 0;
  std::size_t size = 0;
  if (OrtStatus* status = runtime.ort.HasSessionConfigEntry(options, name, &has)) {
    runtime.ort.ReleaseStatus(status);
    return std::nullopt;
  }
  if (has == 0) return std::nullopt;
  if (OrtStatus* status = runtime.ort.GetSessionConfigEntry(options, name, nullptr, &size)) {
    runtime.ort.ReleaseStatus(status);
    return std::nullopt;
  }
  std::string value(size, '\0');
  if (OrtStatus* status = runtime.ort.GetSessionConfigEntry(options, name, value.data(), &size)) {
    runtime.ort.ReleaseStatus(status);
    return std::nullopt;
  }
  value.resize(size > 0 ? size - 1 : 0);  // the size counts the final NUL
  return value;
}

OptionsRead read_options(const Runtime& runtime, const OrtSessionOptions* options) {
  OptionsRead read;
  if (options == nullptr) return read;
  const auto entry = [&](const char* name) {
    return read_entry(runtime, options, name).value_or("");
  };
  read.why_local = entry(marks::kStaysLocal);
  if (entry(kEpContextEnable) == "1") read.why_local = "it asks for a compiled model to be written";
  if (const std::string level = entry(marks::kOptimizationLevel); !level.empty()) {
    read.wire.graph_optimization_level = number<std::uint32_t>(level, 99);
  }
  read.wire.parallel_execution = entry(marks::kExecutionMode) == "1";
  read.intra_op_threads = number(entry(marks::kIntraOpThreads), 0);
  read.external_data_folder = entry(kExternalDataFolder);
  for_each_in_list(runtime, options, marks::kConfigKeys, [&](const std::string& key) {
    if (is_for_the_server(key)) read.wire.config_entries[key] = entry(key.c_str());
  });
  for_each_in_list(runtime, options, marks::kFreeDimensions,
                   [&](const std::string& text) { read_free_dimension(text, read.wire); });
  return read;
}

}  // namespace outboard::intercept::onnxruntime
