// SPDX-License-Identifier: Apache-2.0
// A program on a device that makes Runs of one model when it is told to; it knows nothing of
// Outboard. The benchmarks `adaptive` and `device` start it plainly and under `outboard run`.
//
//   bench_device LIBRARY MODEL
//
// One thread inside the engine, inputs of random floats. Prints "ready" when the session is open.
// Each line "RUNS SECONDS" on standard input makes Runs until either is reached, at least one, and
// is answered by a line "[[wall_us, cpu_us], ...]"; the processor time is that of all threads.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "bench/worker.h"

namespace {

[[noreturn]] void die(const std::string& message) {
  std::fprintf(stderr, "bench_device: %s\n", message.c_str());
  std::exit(1);
}

void check(const OrtApi& ort, OrtStatus* status) {
  if (status != nullptr) die(ort.GetErrorMessage(status));
}

double cpu_us() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

class Model {
 public:
  Model(const OrtApi& ort, const char* path) : ort_(ort) {
    OrtEnv* env = nullptr;
    check(ort, ort.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "device", &env));
    OrtSessionOptions* options = nullptr;
    check(ort, ort.CreateSessionOptions(&options));
    check(ort, ort.SetIntraOpNumThreads(options, 1));
    check(ort, ort.CreateSession(env, path, options, &session_));
    check(ort, ort.GetAllocatorWithDefaultOptions(&allocator_));
    check(ort, ort.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory_));
    std::size_t inputs = 0, outputs = 0;
    check(ort, ort.SessionGetInputCount(session_, &inputs));
    check(ort, ort.SessionGetOutputCount(session_, &outputs));
    if (inputs != 1) die("the model must have one input");
    add_input();
    output_names_.resize(outputs);
    for (std::size_t i = 0; i < outputs; ++i)
      check(ort, ort.SessionGetOutputName(session_, i, allocator_, &output_names_[i]));
  }

  void run() const {
    std::vector<OrtValue*> outputs(output_names_.size(), nullptr);
    check(ort_, ort_.Run(session_, nullptr, &input_name_, &input_, 1, output_names_.data(),
                         outputs.size(), outputs.data()));
    for (OrtValue* output : outputs) ort_.ReleaseValue(output);
  }

 private:
  void add_input() {
    check(ort_, ort_.SessionGetInputName(session_, 0, allocator_, &input_name_));
    OrtTypeInfo* info = nullptr;
    check(ort_, ort_.SessionGetInputTypeInfo(session_, 0, &info));
    const OrtTensorTypeAndShapeInfo* shape = nullptr;
    check(ort_, ort_.CastTypeInfoToTensorInfo(info, &shape));
    std::size_t rank = 0;
    check(ort_, ort_.GetDimensionsCount(shape, &rank));
    std::vector<std::int64_t> dims(rank);
    check(ort_, ort_.GetDimensions(shape, dims.data(), rank));
    bytes_ = bench::input_bytes(0, /*is_float=*/true, bench::close_dims(dims));
    check(ort_,
          ort_.CreateTensorWithDataAsOrtValue(memory_, bytes_.data(), bytes_.size(), dims.data(),
                                              rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input_));
    ort_.ReleaseTypeInfo(info);
  }

  const OrtApi& ort_;
  OrtSession* session_ = nullptr;
  OrtAllocator* allocator_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  char* input_name_ = nullptr;
  std::vector<char*> output_names_;
  std::string bytes_;
  OrtValue* input_ = nullptr;
};

void obey(const Model& model, int runs, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  std::printf("[");
  for (int i = 0; i < runs; ++i) {
    const double cpu_before = cpu_us();
    const auto before = Clock::now();
    model.run();
    const auto after = Clock::now();
    std::printf("%s[%.1f, %.1f]", i == 0 ? "" : ", ",
                std::chrono::duration<double, std::micro>(after - before).count(),
                cpu_us() - cpu_before);
    if (std::chrono::duration<double>(after - begin).count() > seconds) break;
  }
  std::printf("]\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) die("usage: bench_device LIBRARY MODEL");
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) die(dlerror());
  const auto get_base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  if (get_base == nullptr) die("the library has no OrtGetApiBase");
  const OrtApi* ort = get_base()->GetApi(ORT_API_VERSION);
  if (ort == nullptr) die("the library is older than the headers");
  const Model model(*ort, argv[2]);
  std::puts("ready");
  std::fflush(stdout);
  int runs = 0;
  double seconds = 0;
  while (std::scanf("%d %lf", &runs, &seconds) == 2) obey(model, runs, seconds);
}
