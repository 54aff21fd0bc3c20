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

void read_free_dimension(std::string_view entry, wire::SessionOptions& options) {
  const std::size_t colon = entry.find(':', 2);
  if (entry.size() < 4 || colon == std::string_view::npos) return;
  auto& map =
      entry[0] == 'n' ? options.free_dimensions_by_name : options.free_dimensions_by_denotation;
  map[std::string(entry.substr(colon + 1))] = number<std::int64_t>(entry.substr(2, colon - 2), -1);
}

std::vector<wire::ProviderChoice> read_providers(const Runtime& runtime,
                                                 const OrtSessionOptions* options) {
  std::vector<wire::ProviderChoice> providers;
  const auto names = marks_of(runtime, options, marks::kProviders);
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) {
      providers.clear();
      continue;
    }
    wire::ProviderChoice& choice = providers.emplace_back(wire::ProviderChoice{names[i], {}});
    const auto list = fmt::format("{}.{}", marks::kProviderOptions, i);
    for (const std::string& text : marks_of(runtime, options, list)) {
      const std::size_t equals = text.find('=');
      if (equals != std::string::npos)
        choice.options[text.substr(0, equals)] = text.substr(equals + 1);
    }
  }
  return providers;
}

}  // namespace

std::vector<std::string> marks_of(const Runtime& runtime, const OrtSessionOptions* options,
                                  const std::string& name) {
  std::vector<std::string> values;
  while (auto value =
             read_entry(runtime, options, fmt::format("{}.{}", name, values.size()).c_str())) {
    values.push_back(*std::move(value));
  }
  return values;
}

void mark(const Runtime& runtime, OrtSessionOptions* options, const std::string& name,
          std::string_view value) {
  const auto before = marks_of(runtime, options, name);
  if (!before.empty() && before.back() == value) return;
  const std::string key = fmt::format("{}.{}", name, before.size());
  const std::string text(value);
  if (OrtStatus* status = runtime.ort.AddSessionConfigEntry(options, key.c_str(), text.c_str())) {
    log_warn("option ({}) could not be recorded, and will not reach the server: {}", name,
             to_error(runtime, status).message);
  }
}

void mark_provider(const Runtime& runtime, OrtSessionOptions* options, std::string_view name,
                   const std::map<std::string, std::string>& settings) {
  const auto names = marks_of(runtime, options, marks::kProviders);
  const bool again = !names.empty() && names.back() == name;
  const std::size_t index = again ? names.size() - 1 : names.size();
  mark(runtime, options, marks::kProviders, name);
  const std::string list = fmt::format("{}.{}", marks::kProviderOptions, index);
  for (const auto& [key, value] : settings) {
    mark(runtime, options, list, fmt::format("{}={}", key, value));
  }
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
  const auto last = [&](const char* name) {
    const auto values = marks_of(runtime, options, name);
    return values.empty() ? std::string() : values.back();
  };
  read.why_local = last(marks::kStaysLocal);
  if (entry(kEpContextEnable) == "1") read.why_local = "it asks for a compiled model to be written";
  if (const std::string level = last(marks::kOptimizationLevel); !level.empty()) {
    read.wire.graph_optimization_level = number<std::uint32_t>(level, 99);
  }
  read.wire.parallel_execution = last(marks::kExecutionMode) == "1";
  read.intra_op_threads = number(last(marks::kIntraOpThreads), 0);
  read.profiling = last(marks::kProfiling) == "1";
  read.external_data_folder = entry(kExternalDataFolder);
  for (const std::string& key : marks_of(runtime, options, marks::kConfigKeys)) {
    if (is_for_the_server(key)) read.wire.config_entries[key] = entry(key.c_str());
  }
  for (const std::string& text : marks_of(runtime, options, marks::kFreeDimensions)) {
    read_free_dimension(text, read.wire);
  }
  read.wire.providers = read_providers(runtime, options);
  return read;
}

}  // namespace outboard::intercept::onnxruntime
