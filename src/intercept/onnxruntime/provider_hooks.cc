// SPDX-License-Identifier: Apache-2.0
// As in hooks.cc, each runtime of the process has an instance of every hook of its own.
#include "intercept/onnxruntime/provider_hooks.h"

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "intercept/common/process.h"
#include "intercept/onnxruntime/providers.h"

namespace outboard::intercept::onnxruntime {
namespace {

std::array<Runtime*, kMaxRuntimes> hooked_runtimes{};
std::atomic<int> gpu_device{0};  // what the program has set, of an emulated GPU

// The functions of the table for the options of a provider, all of one pattern.
struct Cuda {
  using Options = OrtCUDAProviderOptionsV2;
  static constexpr const char* kProvider = kCudaProvider;
  static constexpr auto kCreate = &OrtApi::CreateCUDAProviderOptions;
  static constexpr auto kUpdate = &OrtApi::UpdateCUDAProviderOptions;
  static constexpr auto kUpdateWithValue = &OrtApi::UpdateCUDAProviderOptionsWithValue;
  static constexpr auto kAsString = &OrtApi::GetCUDAProviderOptionsAsString;
  static constexpr auto kByName = &OrtApi::GetCUDAProviderOptionsByName;
  static constexpr auto kRelease = &OrtApi::ReleaseCUDAProviderOptions;
  static constexpr auto kAppend = &OrtApi::SessionOptionsAppendExecutionProvider_CUDA_V2;
};

struct TensorRt {
  using Options = OrtTensorRTProviderOptionsV2;
  static constexpr const char* kProvider = kTensorRtProvider;
  static constexpr auto kCreate = &OrtApi::CreateTensorRTProviderOptions;
  static constexpr auto kUpdate = &OrtApi::UpdateTensorRTProviderOptions;
  static constexpr auto kUpdateWithValue = &OrtApi::UpdateTensorRTProviderOptionsWithValue;
  static constexpr auto kAsString = &OrtApi::GetTensorRTProviderOptionsAsString;
  static constexpr auto kByName = &OrtApi::GetTensorRTProviderOptionsByName;
  static constexpr auto kRelease = &OrtApi::ReleaseTensorRTProviderOptions;
  static constexpr auto kAppend = &OrtApi::SessionOptionsAppendExecutionProvider_TensorRT_V2;
};

OrtStatus* in_the_allocators_memory(const Runtime& runtime, const std::string& text,
                                    OrtAllocator* allocator, char** out) {
  *out = static_cast<char*>(allocator->Alloc(allocator, text.size() + 1));
  if (*out == nullptr) return runtime.ort.CreateStatus(ORT_FAIL, "there is no memory");
  std::memcpy(*out, text.c_str(), text.size() + 1);
  return nullptr;
}

// What the library's own options object says; empty where it cannot tell.
template <typename Kind>
ProviderSettings own_settings(const Runtime& runtime, const typename Kind::Options* options) {
  OrtAllocator* allocator = nullptr;
  char* text = nullptr;
  OrtStatus* status = runtime.ort.GetAllocatorWithDefaultOptions(&allocator);
  if (status == nullptr) status = (runtime.ort.*Kind::kAsString)(options, allocator, &text);
  if (status != nullptr) {
    runtime.ort.ReleaseStatus(status);
    return {};
  }
  ProviderSettings settings = parse_settings(text == nullptr ? "" : text);
  if (text != nullptr) allocator->Free(allocator, text);
  return settings;
}

template <int N>
struct Hooks {
  static Runtime& runtime() { return *hooked_runtimes[N]; }
  static const OrtApi& ort() { return runtime().ort; }

  static OrtStatus* GetAvailableProviders(char*** out, int* count) noexcept {
    const auto names = available_providers(runtime());
    auto list = std::make_unique<char*[]>(names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      list[i] = std::make_unique<char[]>(names[i].size() + 1).release();
      std::memcpy(list[i], names[i].c_str(), names[i].size() + 1);
    }
    *out = list.release();
    *count = static_cast<int>(names.size());
    return nullptr;
  }
  static OrtStatus* ReleaseAvailableProviders(char** list, int count) noexcept {
    const std::unique_ptr<char*[]> owned(list);
    for (int i = 0; i < count; ++i) const std::unique_ptr<char[]> name(list[i]);
    return nullptr;
  }

  // ---- options of a provider

  template <typename Kind>
  static OrtStatus* create(typename Kind::Options** out) noexcept {
    OrtStatus* status = (ort().*Kind::kCreate)(out);
    if (status == nullptr) return status;
    for (const std::string& name : Process::current().server_providers()) {
      if (name != Kind::kProvider) continue;
      ort().ReleaseStatus(status);
      *out = static_cast<typename Kind::Options*>(ProviderOptions::make());
      return nullptr;
    }
    return status;
  }
  template <typename Kind>
  static OrtStatus* update(typename Kind::Options* options, const char* const* keys,
                           const char* const* values, std::size_t count) noexcept {
    ProviderOptions* ours = ProviderOptions::find(options);
    if (ours == nullptr) return (ort().*Kind::kUpdate)(options, keys, values, count);
    ours->update(settings_of(std::span(keys, count), std::span(values, count)));
    return nullptr;
  }
  template <typename Kind>
  static OrtStatus* update_with_value(typename Kind::Options* options, const char* key,
                                      void* value) noexcept {
    if (ProviderOptions::find(options) == nullptr)
      return (ort().*Kind::kUpdateWithValue)(options, key, value);
    const std::string text = "the option (" + std::string(key) +
                             ") is an object of this process, which the GPU of a server cannot use";
    return ort().CreateStatus(ORT_NOT_IMPLEMENTED, text.c_str());
  }
  template <typename Kind>
  static OrtStatus* as_string(const typename Kind::Options* options, OrtAllocator* allocator,
                              char** out) noexcept {
    const ProviderOptions* ours = ProviderOptions::find(options);
    if (ours == nullptr) return (ort().*Kind::kAsString)(options, allocator, out);
    return in_the_allocators_memory(runtime(), ours->text(), allocator, out);
  }
  template <typename Kind>
  static OrtStatus* by_name(const typename Kind::Options* options, const char* key,
                            void** out) noexcept {
    if (ProviderOptions::find(options) == nullptr) return (ort().*Kind::kByName)(options, key, out);
    *out = nullptr;
    return nullptr;
  }
  template <typename Kind>
  static void release(typename Kind::Options* options) noexcept {
    if (!ProviderOptions::release(options)) (ort().*Kind::kRelease)(options);
  }
  template <typename Kind>
  static OrtStatus* append(OrtSessionOptions* options,
                           const typename Kind::Options* given) noexcept {
    if (const ProviderOptions* ours = ProviderOptions::find(given)) {
      OrtStatus* absent = ort().CreateStatus(ORT_FAIL, "the server's GPU is not there any more");
      return append_provider(runtime(), options, Kind::kProvider, ours->settings(), absent);
    }
    OrtStatus* own = (ort().*Kind::kAppend)(options, given);
    return append_provider(runtime(), options, Kind::kProvider,
                           own_settings<Kind>(runtime(), given), own);
  }

  // ---- append by older structs, and by name

  static OrtStatus* SessionOptionsAppendExecutionProvider_CUDA(
      OrtSessionOptions* options, const OrtCUDAProviderOptions* given) noexcept {
    return append_provider(runtime(), options, kCudaProvider, settings_of(*given),
                           ort().SessionOptionsAppendExecutionProvider_CUDA(options, given));
  }
  static OrtStatus* SessionOptionsAppendExecutionProvider_TensorRT(
      OrtSessionOptions* options, const OrtTensorRTProviderOptions* given) noexcept {
    return append_provider(runtime(), options, kTensorRtProvider, settings_of(*given),
                           ort().SessionOptionsAppendExecutionProvider_TensorRT(options, given));
  }
  static OrtStatus* SessionOptionsAppendExecutionProvider(OrtSessionOptions* options,
                                                          const char* name, const char* const* keys,
                                                          const char* const* values,
                                                          std::size_t count) noexcept {
    OrtStatus* own =
        ort().SessionOptionsAppendExecutionProvider(options, name, keys, values, count);
    return append_provider(runtime(), options, full_provider_name(name),
                           settings_of(std::span(keys, count), std::span(values, count)), own);
  }

  // ---- the device and its memory

  static OrtStatus* CreateMemoryInfo(const char* name, OrtAllocatorType type, int device,
                                     OrtMemType memory, OrtMemoryInfo** out) noexcept {
    const char* instead = memory_name(runtime(), name);
    if (instead == name) return ort().CreateMemoryInfo(name, type, device, memory, out);
    return ort().CreateMemoryInfo(instead, type, 0, OrtMemTypeDefault, out);
  }
  static OrtStatus* SetCurrentGpuDeviceId(int device) noexcept {
    OrtStatus* status = ort().SetCurrentGpuDeviceId(device);
    if (status == nullptr || !is_gpu_emulated(runtime())) return status;
    ort().ReleaseStatus(status);
    gpu_device = device;
    return nullptr;
  }
  static OrtStatus* GetCurrentGpuDeviceId(int* device) noexcept {
    OrtStatus* status = ort().GetCurrentGpuDeviceId(device);
    if (status == nullptr || !is_gpu_emulated(runtime())) return status;
    ort().ReleaseStatus(status);
    *device = gpu_device;
    return nullptr;
  }

  template <typename Kind>
  static void write_options(OrtApi& table) {
    (table.*Kind::kCreate) = &Hooks::template create<Kind>;
    (table.*Kind::kUpdate) = &Hooks::template update<Kind>;
    (table.*Kind::kUpdateWithValue) = &Hooks::template update_with_value<Kind>;
    (table.*Kind::kAsString) = &Hooks::template as_string<Kind>;
    (table.*Kind::kByName) = &Hooks::template by_name<Kind>;
    (table.*Kind::kRelease) = &Hooks::template release<Kind>;
    (table.*Kind::kAppend) = &Hooks::template append<Kind>;
  }

  static void write(OrtApi& table) {
    write_options<Cuda>(table);
    write_options<TensorRt>(table);
#define OUTBOARD_HOOK(slot) (table.slot = &Hooks::slot)
    OUTBOARD_HOOK(GetAvailableProviders);
    OUTBOARD_HOOK(ReleaseAvailableProviders);
    OUTBOARD_HOOK(SessionOptionsAppendExecutionProvider_CUDA);
    OUTBOARD_HOOK(SessionOptionsAppendExecutionProvider_TensorRT);
    OUTBOARD_HOOK(SessionOptionsAppendExecutionProvider);
    OUTBOARD_HOOK(CreateMemoryInfo);
    OUTBOARD_HOOK(SetCurrentGpuDeviceId);
    OUTBOARD_HOOK(GetCurrentGpuDeviceId);
#undef OUTBOARD_HOOK
  }
};

using WriteHooks = void (*)(OrtApi&);
constexpr std::array<WriteHooks, kMaxRuntimes> kWriters = {&Hooks<0>::write, &Hooks<1>::write,
                                                           &Hooks<2>::write, &Hooks<3>::write};

}  // namespace

void write_provider_hooks(Runtime& runtime, OrtApi& table) {
  const auto index = static_cast<std::size_t>(runtime.index);
  hooked_runtimes[index] = &runtime;
  kWriters[index](table);
}

OrtStatus* append_legacy_provider(Runtime& runtime, OrtSessionOptions* options,
                                  const char* provider, int device, OrtStatus* own, bool has_own) {
  const std::string absent = std::string(provider) + " is neither in this library nor at a server";
  if (!has_own) own = runtime.ort.CreateStatus(ORT_FAIL, absent.c_str());
  return append_provider(runtime, options, provider, {{"device_id", std::to_string(device)}}, own);
}

}  // namespace outboard::intercept::onnxruntime
