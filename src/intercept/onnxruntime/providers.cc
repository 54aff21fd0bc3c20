// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/providers.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "intercept/common/process.h"
#include "intercept/onnxruntime/option_marks.h"

namespace outboard::intercept::onnxruntime {
namespace {

// Providers that every machine has, or that are none of a device.
constexpr std::array<std::string_view, 2> kEverywhere = {"CPUExecutionProvider",
                                                         "AzureExecutionProvider"};

// A library may know a provider that does not work on this machine: then an append was answered by
// the server's list once.
std::array<std::atomic<bool>, kMaxRuntimes> has_emulated{};

template <typename List>
bool contains(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

std::vector<std::string> own_providers(const Runtime& runtime) {
  std::vector<std::string> names;
  char** list = nullptr;
  int count = 0;
  if (OrtStatus* status = runtime.ort.GetAvailableProviders(&list, &count)) {
    runtime.ort.ReleaseStatus(status);
    return names;
  }
  for (int i = 0; i < count; ++i) names.emplace_back(list[i]);
  if (OrtStatus* status = runtime.ort.ReleaseAvailableProviders(list, count)) {
    runtime.ort.ReleaseStatus(status);
  }
  return names;
}

std::vector<std::string> offered_providers() {
  auto offered = Process::current().server_providers();
  std::erase_if(offered, [](const std::string& name) { return contains(kEverywhere, name); });
  return offered;
}

struct AllOptions {
  std::mutex mutex;
  std::vector<ProviderOptions*> made;
};

AllOptions& all_options() {
  static auto* all = [] {
    static auto* fresh = new AllOptions;
    pthread_atfork([] { fresh->mutex.lock(); }, [] { fresh->mutex.unlock(); },
                   [] { fresh->mutex.unlock(); });
    return fresh;
  }();
  return *all;
}

}  // namespace

std::vector<std::string> available_providers(const Runtime& runtime) {
  const auto own = own_providers(runtime);
  auto all = offered_providers();
  std::erase_if(all, [&](const std::string& name) { return contains(own, name); });
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

bool is_gpu_emulated(const Runtime& runtime) {
  if (has_emulated[static_cast<std::size_t>(runtime.index)]) return true;
  return contains(offered_providers(), kCudaProvider) &&
         !contains(own_providers(runtime), kCudaProvider);
}

std::string full_provider_name(std::string_view name) {
  if (name == "CUDA" || name == "cuda") return kCudaProvider;
  if (name == "TensorRT" || name == "Tensorrt" || name == "tensorrt") return kTensorRtProvider;
  const std::string longer = std::string(name) + "ExecutionProvider";
  return contains(offered_providers(), longer) ? longer : std::string(name);
}

OrtStatus* append_provider(Runtime& runtime, OrtSessionOptions* options, std::string_view name,
                           const ProviderSettings& settings, OrtStatus* own) {
  if (settings.contains("user_compute_stream")) {
    if (own == nullptr) return own;
    runtime.ort.ReleaseStatus(own);
    return runtime.ort.CreateStatus(
        ORT_NOT_IMPLEMENTED,
        "a compute stream of this process (user_compute_stream) cannot be used by the GPU of a "
        "server");
  }
  if (!contains(offered_providers(), name)) return own;
  if (own != nullptr) {
    runtime.ort.ReleaseStatus(own);
    has_emulated[static_cast<std::size_t>(runtime.index)] = true;
    log_info("{} is not here and will be the server's", name);
  }
  mark_provider(runtime, options, name, settings);
  return nullptr;
}

ProviderSettings settings_of(std::span<const char* const> keys,
                             std::span<const char* const> values) {
  ProviderSettings settings;
  for (std::size_t i = 0; i < keys.size() && i < values.size(); ++i) {
    if (keys[i] != nullptr && values[i] != nullptr) settings[keys[i]] = values[i];
  }
  return settings;
}

ProviderSettings settings_of(const OrtCUDAProviderOptions& options) {
  constexpr std::array kSearch = {"EXHAUSTIVE", "HEURISTIC", "DEFAULT"};
  ProviderSettings settings;
  settings["device_id"] = std::to_string(options.device_id);
  const auto search = static_cast<std::size_t>(options.cudnn_conv_algo_search);
  if (search < kSearch.size()) settings["cudnn_conv_algo_search"] = kSearch[search];
  settings["gpu_mem_limit"] = std::to_string(options.gpu_mem_limit);
  settings["arena_extend_strategy"] =
      options.arena_extend_strategy == 0 ? "kNextPowerOfTwo" : "kSameAsRequested";
  settings["do_copy_in_default_stream"] = options.do_copy_in_default_stream == 0 ? "0" : "1";
  if (options.has_user_compute_stream != 0) settings["user_compute_stream"] = "1";
  return settings;
}

ProviderSettings settings_of(const OrtTensorRTProviderOptions& options) {
  ProviderSettings settings;
  const auto number = [&](const char* key, std::size_t value) {
    if (value > 0) settings[key] = std::to_string(value);
  };
  const auto truth = [&](const char* key, int value) { settings[key] = value == 0 ? "0" : "1"; };
  settings["device_id"] = std::to_string(options.device_id);
  number("trt_max_partition_iterations",
         static_cast<std::size_t>(std::max(0, options.trt_max_partition_iterations)));
  number("trt_min_subgraph_size",
         static_cast<std::size_t>(std::max(0, options.trt_min_subgraph_size)));
  number("trt_max_workspace_size", options.trt_max_workspace_size);
  truth("trt_fp16_enable", options.trt_fp16_enable);
  truth("trt_int8_enable", options.trt_int8_enable);
  truth("trt_force_sequential_engine_build", options.trt_force_sequential_engine_build);
  if (options.has_user_compute_stream != 0) settings["user_compute_stream"] = "1";
  return settings;
}

ProviderSettings parse_settings(std::string_view text) {
  ProviderSettings settings;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(';'), text.size());
    const std::string_view entry = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t equals = entry.find('=');
    if (equals != std::string_view::npos)
      settings[std::string(entry.substr(0, equals))] = entry.substr(equals + 1);
  }
  return settings;
}

// ---- options objects

void* ProviderOptions::make() {
  auto made = std::make_unique<ProviderOptions>();
  AllOptions& all = all_options();
  const std::lock_guard lock(all.mutex);
  all.made.push_back(made.get());
  return made.release()->block_;
}

ProviderOptions* ProviderOptions::find(const void* pointer) {
  AllOptions& all = all_options();
  const std::lock_guard lock(all.mutex);
  for (ProviderOptions* options : all.made) {
    if (options->block_ == pointer) return options;
  }
  return nullptr;
}

bool ProviderOptions::release(void* pointer) {
  AllOptions& all = all_options();
  const std::lock_guard lock(all.mutex);
  const auto found = std::find_if(all.made.begin(), all.made.end(),
                                  [&](const auto* options) { return options->block_ == pointer; });
  if (found == all.made.end()) return false;
  delete *found;
  all.made.erase(found);
  return true;
}

void ProviderOptions::update(const ProviderSettings& settings) {
  for (const auto& [key, value] : settings) settings_[key] = value;
}

ProviderSettings ProviderOptions::settings() const {
  ProviderSettings settings = settings_;
  int device = 0;
  std::memcpy(&device, block_, sizeof device);
  settings.emplace("device_id", std::to_string(device));
  return settings;
}

std::string ProviderOptions::text() const {
  std::string text;
  for (const auto& [key, value] : settings())
    text += fmt::format("{}{}={}", text.empty() ? "" : ";", key, value);
  return text;
}

const char* memory_name(const Runtime& runtime, const char* name) {
  const std::string_view given = name == nullptr ? "" : name;
  const bool of_a_gpu = given == "Cuda" || given == "CudaPinned";
  return of_a_gpu && is_gpu_emulated(runtime) ? "Cpu" : name;
}

}  // namespace outboard::intercept::onnxruntime
