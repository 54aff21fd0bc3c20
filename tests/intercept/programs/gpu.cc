// SPDX-License-Identifier: Apache-2.0
// An ordinary program that wants a GPU, by every way that the C API has, and knows nothing of
// Outboard.  gpu MODEL   (one float input [batch, 4], outputs y and z)
#include <dlfcn.h>
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace {

const char* model_path = nullptr;
Ort::Env* env = nullptr;

template <typename Call>
void guarded(const char* how, const Call& call) {
  try {
    call();
  } catch (const Ort::Exception& e) {
    std::printf("%s failed: %d %s\n", how, static_cast<int>(e.GetOrtErrorCode()), e.what());
  }
}

void print(const char* how, const Ort::Value& value) {
  std::printf("%s:", how);
  const auto count = value.GetTensorTypeAndShapeInfo().GetElementCount();
  for (std::size_t i = 0; i < count; ++i)
    std::printf(" %.9g", static_cast<double>(value.GetTensorData<float>()[i]));
  std::printf("\n");
}

constexpr std::array<std::int64_t, 2> kShape{2, 4};
std::array<float, 8> input{0, 1, 2, 3, -4, 5, 6, 7};

void run(const char* how, const Ort::SessionOptions& options) {
  Ort::Session session(*env, model_path, options);
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto value = Ort::Value::CreateTensor<float>(memory, input.data(), input.size(),
                                                     kShape.data(), kShape.size());
  const char* in = "x";
  const char* out = "y";
  print(how, session.Run(Ort::RunOptions{nullptr}, &in, &value, 1, &out, 1).front());
}

void by_options_object() {
  const OrtApi& api = Ort::GetApi();
  OrtCUDAProviderOptionsV2* cuda = nullptr;
  Ort::ThrowOnError(api.CreateCUDAProviderOptions(&cuda));
  const std::array keys{"device_id", "use_tf32", "cudnn_conv_algo_search"};
  const std::array values{"0", "0", "HEURISTIC"};
  Ort::ThrowOnError(api.UpdateCUDAProviderOptions(cuda, keys.data(), values.data(), keys.size()));
  Ort::AllocatorWithDefaultOptions allocator;
  char* text = nullptr;
  Ort::ThrowOnError(api.GetCUDAProviderOptionsAsString(cuda, allocator, &text));
  std::printf("cuda options %s\n", text);
  allocator.Free(text);
  guarded("stream", [&] {
    int stream = 0;
    Ort::ThrowOnError(api.UpdateCUDAProviderOptionsWithValue(cuda, "user_compute_stream", &stream));
  });
  Ort::SessionOptions options;
  options.AppendExecutionProvider_CUDA_V2(*cuda);
  api.ReleaseCUDAProviderOptions(cuda);
  run("cuda v2", options);
  const Ort::SessionOptions clone = options.Clone();
  run("cuda v2 cloned", clone);
}

void by_tensorrt_object() {
  const OrtApi& api = Ort::GetApi();
  OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
  Ort::ThrowOnError(api.CreateTensorRTProviderOptions(&tensorrt));
  const std::array keys{"trt_fp16_enable", "trt_engine_cache_path"};
  const std::array values{"1", "/tmp/of-the-client"};
  Ort::ThrowOnError(
      api.UpdateTensorRTProviderOptions(tensorrt, keys.data(), values.data(), keys.size()));
  Ort::SessionOptions options;
  options.AppendExecutionProvider_TensorRT_V2(*tensorrt);
  options.AppendExecutionProvider_CUDA(OrtCUDAProviderOptions{});
  api.ReleaseTensorRTProviderOptions(tensorrt);
  run("tensorrt v2 and cuda", options);
}

void by_older_structs() {
  Ort::SessionOptions options;
  OrtCUDAProviderOptions cuda;
  cuda.cudnn_conv_algo_search = OrtCudnnConvAlgoSearchDefault;
  options.AppendExecutionProvider_CUDA(cuda);
  run("cuda v1", options);
  Ort::SessionOptions other;
  OrtTensorRTProviderOptions tensorrt{};
  tensorrt.trt_int8_enable = 1;
  other.AppendExecutionProvider_TensorRT(tensorrt);
  run("tensorrt v1", other);
  guarded("v1 with a stream", [&] {
    Ort::SessionOptions third;
    cuda.has_user_compute_stream = 1;
    third.AppendExecutionProvider_CUDA(cuda);
  });
}

void by_name() {
  Ort::SessionOptions options;
  options.AppendExecutionProvider("CUDA", {{"prefer_nhwc", "1"}});
  run("by name", options);
  guarded("unknown name", [] { Ort::SessionOptions().AppendExecutionProvider("NoSuchThing", {}); });
}

void by_exported_function() {
  using Append = OrtStatus* (*)(OrtSessionOptions*, int);
  void* library = dlopen("libonnxruntime.so.1", RTLD_NOW);
  const auto append =
      reinterpret_cast<Append>(dlsym(library, "OrtSessionOptionsAppendExecutionProvider_CUDA"));
  if (append == nullptr) {
    std::printf("exported function: absent\n");
    return;
  }
  Ort::SessionOptions options;
  Ort::ThrowOnError(append(options, 0));
  run("exported function", options);
}

void with_device_memory() {
  Ort::SessionOptions options;
  options.AppendExecutionProvider("CUDA", {});
  Ort::Session session(*env, model_path, options);
  const Ort::MemoryInfo cuda("Cuda", OrtDeviceAllocator, 0, OrtMemTypeDefault);
  const Ort::Allocator allocator(session, cuda);
  auto value = Ort::Value::CreateTensor<float>(allocator, kShape.data(), kShape.size());
  std::copy(input.begin(), input.end(), value.GetTensorMutableData<float>());
  Ort::IoBinding binding(session);
  binding.BindInput("x", value);
  binding.BindOutput("z", cuda);
  session.Run(Ort::RunOptions{}, binding);
  binding.SynchronizeOutputs();
  print("device memory", binding.GetOutputValues().front());
  // A buffer of one's own under the device's name, as programs wrap what they have allocated.
  std::array<float, 6> own{};
  const std::array<std::int64_t, 2> shape{2, 3};
  auto output =
      Ort::Value::CreateTensor<float>(cuda, own.data(), own.size(), shape.data(), shape.size());
  binding.ClearBoundOutputs();
  binding.BindOutput("y", output);
  session.Run(Ort::RunOptions{}, binding);
  print("wrapped memory", output);
}

void current_device() {
  int device = -1;
  Ort::ThrowOnError(Ort::GetApi().SetCurrentGpuDeviceId(0));
  Ort::ThrowOnError(Ort::GetApi().GetCurrentGpuDeviceId(&device));
  std::printf("current device %d\n", device);
}

}  // namespace

int main(int, char** argv) {
  model_path = argv[1];
  Ort::Env environment(ORT_LOGGING_LEVEL_FATAL, "gpu");
  env = &environment;
  std::printf("providers");
  for (const std::string& name : Ort::GetAvailableProviders()) std::printf(" %s", name.c_str());
  std::printf("\n");
  guarded("plain", [] { run("plain", Ort::SessionOptions{}); });
  guarded("cuda v2", by_options_object);
  guarded("tensorrt v2", by_tensorrt_object);
  guarded("older structs", by_older_structs);
  guarded("by name", by_name);
  guarded("exported function", by_exported_function);
  guarded("device memory", with_device_memory);
  guarded("current device", current_device);
  return 0;
}
