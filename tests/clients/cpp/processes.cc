// SPDX-License-Identifier: Apache-2.0
// An ordinary program that loads ONNX Runtime itself, RTLD_LOCAL, and is hard on a guest.
//
//   processes two LIBRARY LIBRARY MODEL     two copies of the runtime, used in turn
//   processes outlive LIBRARY MODEL         main() ends by pthread_exit(), its threads go on
#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace {

constexpr int kThreads = 4, kRuns = 5;

// The session of a model with the input x [batch, 4] and the output y [batch, 3]. Never released.
class Model {
 public:
  Model(const char* library, const char* path) {
    void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) std::fprintf(stderr, "%s\n", dlerror()), std::exit(1);
    const auto entry = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(handle, "OrtGetApiBase"));
    version = entry()->GetVersionString();
    ort_ = entry()->GetApi(16);
    OrtEnv* env = nullptr;
    OrtSessionOptions* options = nullptr;
    check(ort_->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "processes", &env));
    check(ort_->CreateSessionOptions(&options));
    check(ort_->CreateSession(env, path, options, &session_));
    check(ort_->GetAllocatorWithDefaultOptions(&allocator_));
  }

  // The output's numbers, to the last bit.
  std::string run() const {
    constexpr std::int64_t kDims[] = {2, 4};
    OrtValue *input = nullptr, *output = nullptr;
    float* data = nullptr;
    check(ort_->CreateTensorAsOrtValue(allocator_, kDims, 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                       &input));
    check(ort_->GetTensorMutableData(input, reinterpret_cast<void**>(&data)));
    for (int i = 0; i < 8; ++i) data[i] = static_cast<float>(i) / 4 - 1;
    const char *input_name = "x", *output_name = "y";
    check(ort_->Run(session_, nullptr, &input_name, &input, 1, &output_name, 1, &output));
    check(ort_->GetTensorMutableData(output, reinterpret_cast<void**>(&data)));
    std::string text;
    for (int i = 0; i < 6; ++i) {
      char number[32];
      std::snprintf(number, sizeof number, " %a", static_cast<double>(data[i]));
      text += number;
    }
    ort_->ReleaseValue(input);
    ort_->ReleaseValue(output);
    return text;
  }

  std::string version;

 private:
  void check(OrtStatus* status) const {
    if (status == nullptr) return;
    std::printf("error %s\n", ort_->GetErrorMessage(status));
    std::exit(1);
  }
  const OrtApi* ort_ = nullptr;
  OrtSession* session_ = nullptr;
  OrtAllocator* allocator_ = nullptr;
};

int two(const char* first_library, const char* second_library, const char* path) {
  const Model first(first_library, path), second(second_library, path);
  for (int i = 0; i < 3; ++i) {
    for (const Model* m : {&first, &second}) {
      std::printf("%s%s\n", m->version.c_str(), m->run().c_str());
    }
  }
  return 0;
}

[[noreturn]] void outlive(const char* library, const char* path) {
  static const Model model(library, path);
  static std::atomic<int> ended{0};
  for (int t = 0; t < kThreads; ++t) {
    std::thread([] {
      for (int i = 0; i < kRuns; ++i) model.run();
      if (++ended != kThreads) return;
      std::printf("all ended%s\n", model.run().c_str());
      std::exit(0);  // the runtime's own threads would keep the process
    }).detach();
  }
  pthread_exit(nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "two" && argc == 5) return two(argv[2], argv[3], argv[4]);
  if (what == "outlive" && argc == 4) outlive(argv[2], argv[3]);
  std::fprintf(stderr, "usage: processes two|outlive LIBRARY... MODEL\n");
  return 2;
}
