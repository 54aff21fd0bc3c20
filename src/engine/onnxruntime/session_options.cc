// SPDX-License-Identifier: Apache-2.0
#include "engine/onnxruntime/session_options.h"

#include <charconv>
#include <map>
#include <vector>

namespace outboard::engine {
namespace {

const Provider* find(const std::vector<Provider>& providers, std::string_view name) {
  for (const Provider& provider : providers)
    if (provider.name == name) return &provider;
  return nullptr;
}

// A provider's options as the table's Update functions take them; borrows `settings`.
struct KeysAndValues {
  explicit KeysAndValues(const std::map<std::string, std::string>& settings) {
    for (const auto& [key, value] : settings) {
      keys.push_back(key.c_str());
      values.push_back(value.c_str());
    }
  }
  std::vector<const char*> keys, values;
};

std::map<std::string, std::string> settings_of(const Provider* provider, int index) {
  std::map<std::string, std::string> settings;
  if (provider != nullptr) settings = provider->options;
  settings["device_id"] = std::to_string(index);
  return settings;
}

Result<void> append_tensorrt(const Library& library, OrtSessionOptions* target, int index,
                             const Provider& provider) {
  const OrtApi& api = library.api();
  const auto settings = settings_of(&provider, index);
  const KeysAndValues entries(settings);
  Owned<OrtTensorRTProviderOptionsV2> tensorrt(api.ReleaseTensorRTProviderOptions);
  OB_CHECK_OK(library.check(api.CreateTensorRTProviderOptions(tensorrt.out())));
  OB_CHECK_OK(library.check(api.UpdateTensorRTProviderOptions(
      tensorrt.get(), entries.keys.data(), entries.values.data(), entries.keys.size())));
  return library.check(
      api.SessionOptionsAppendExecutionProvider_TensorRT_V2(target, tensorrt.get()));
}

Result<void> append_cuda(const Library& library, OrtSessionOptions* target, int index,
                         const std::vector<Provider>& providers) {
  const OrtApi& api = library.api();
  if (library.api_version() < 11)
    return error(
        ErrorKind::kUnimplemented,
        "the device (cuda:{}) needs ONNX Runtime 1.11 or later, and the library ({}) is {}", index,
        library.path(), library.version());
  const auto settings = settings_of(find(providers, kCudaProvider), index);
  const KeysAndValues entries(settings);
  Owned<OrtCUDAProviderOptionsV2> cuda(api.ReleaseCUDAProviderOptions);
  OB_CHECK_OK(library.check(api.CreateCUDAProviderOptions(cuda.out())));
  OB_CHECK_OK(library.check(api.UpdateCUDAProviderOptions(
      cuda.get(), entries.keys.data(), entries.values.data(), entries.keys.size())));
  return library.check(api.SessionOptionsAppendExecutionProvider_CUDA_V2(target, cuda.get()));
}

Result<void> add_external_files(const Library& library, OrtSessionOptions* target,
                                const std::vector<ExternalFile>& files) {
  if (files.empty()) return {};
  if (library.api_version() < 18)
    return error(ErrorKind::kUnimplemented,
                 "external data as bytes needs ONNX Runtime 1.18 or later, and the library is {}",
                 library.version());
  std::vector<const char*> names;
  std::vector<char*> data;  // only read, whatever the type says
  std::vector<std::size_t> sizes;
  for (const ExternalFile& file : files) {
    names.push_back(file.name.c_str());
    data.push_back(const_cast<char*>(reinterpret_cast<const char*>(file.bytes.data())));
    sizes.push_back(file.bytes.size());
  }
  return library.check(library.api().AddExternalInitializersFromFilesInMemory(
      target, names.data(), data.data(), sizes.data(), names.size()));
}

Result<void> apply(const Library& library, OrtSessionOptions* target, const OpenOptions& options) {
  const OrtApi& api = library.api();
  const auto level = static_cast<GraphOptimizationLevel>(options.graph_optimization_level);
  OB_CHECK_OK(library.check(api.SetSessionGraphOptimizationLevel(target, level)));
  OB_CHECK_OK(library.check(api.SetSessionExecutionMode(
      target, options.parallel_execution ? ORT_PARALLEL : ORT_SEQUENTIAL)));
  for (const auto& [name, size] : options.free_dimensions_by_name)
    OB_CHECK_OK(library.check(api.AddFreeDimensionOverrideByName(target, name.c_str(), size)));
  for (const auto& [denotation, size] : options.free_dimensions_by_denotation)
    OB_CHECK_OK(library.check(api.AddFreeDimensionOverride(target, denotation.c_str(), size)));
  for (const auto& [key, value] : options.config_entries)
    OB_CHECK_OK(library.check(api.AddSessionConfigEntry(target, key.c_str(), value.c_str())));
  OB_CHECK_OK(add_external_files(library, target, options.external_files));
  if (options.intra_op_threads > 0)
    return library.check(api.SetIntraOpNumThreads(target, options.intra_op_threads));
  if (library.has_shared_threads()) return library.check(api.DisablePerSessionThreads(target));
  return {};
}

}  // namespace

Result<Device> parse_device(std::string_view text) {
  if (text == "cpu") return Device{};
  Device device{.cuda = true};
  if (text.starts_with("cuda:")) {
    const char* end = text.data() + text.size();
    const auto [stop, code] = std::from_chars(text.data() + 5, end, device.index);
    if (code == std::errc{} && stop == end && device.index >= 0) return device;
  }
  return error(ErrorKind::kInvalid, "the device ({}) is not known; expected cpu or cuda:N", text);
}

Result<Owned<OrtSessionOptions>> make_session_options(const Library& library, const Device& device,
                                                      const OpenOptions& options) {
  Owned<OrtSessionOptions> target(library.api().ReleaseSessionOptions);
  OB_CHECK_OK(library.check(library.api().CreateSessionOptions(target.out())));
  OB_CHECK_OK(apply(library, target.get(), options));
  if (!device.cuda) return target;
  if (const Provider* tensorrt = find(options.providers, kTensorRtProvider))
    OB_CHECK_OK(append_tensorrt(library, target.get(), device.index, *tensorrt));
  OB_CHECK_OK(append_cuda(library, target.get(), device.index, options.providers));
  return target;
}

Result<std::vector<Owned<OrtValue>>> add_shared_tensors(const Library& library,
                                                        OrtSessionOptions* target,
                                                        const std::vector<SharedTensor>& tensors) {
  const OrtApi& api = library.api();
  std::vector<Owned<OrtValue>> values;
  values.reserve(tensors.size());
  for (const SharedTensor& tensor : tensors) {
    // Only read, whatever the type says.
    void* const data = const_cast<std::byte*>(tensor.bytes.data());
    Owned<OrtValue> value(api.ReleaseValue);
    OB_CHECK_OK(library.check(api.CreateTensorWithDataAsOrtValue(
        library.cpu_memory(), data, tensor.bytes.size(), tensor.dims.data(), tensor.dims.size(),
        static_cast<ONNXTensorElementDataType>(tensor.type), value.out())));
    OB_CHECK_OK(library.check(api.AddInitializer(target, tensor.name.c_str(), value.get())));
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace outboard::engine
