// SPDX-License-Identifier: Apache-2.0
// Measures Runs of one model through two tables of the same ONNX Runtime, side by side in one
// process: the library's own (in-process), and the one that a program gets, which is Outboard's
// under `outboard run`. Without `outboard run` both are the same, and so must be the times.
//
//   bench_offload LIBRARY MODEL CALLERS SECONDS [THREADS]
//
// CALLERS threads make Runs of one session at once. Blocks of both kinds alternate, in an order
// that is drawn anew for each pair, so that whatever else the machine does hits both. Prints JSON:
// {"model", "callers", "pairs": [{"in_process_us": [time of each Run...], "outboard_us":
// [...]}...],
//  "cpu_us_per_run": {"in_process", "outboard"}, "largest_difference": number}
#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr double kBlockMs = 25;           // a block ends after the Run that exceeds this,
constexpr std::size_t kBlockRuns = 1000;  // or after so many
constexpr int kLeastPairs = 5;
constexpr int kWarmUpRuns = 3;  // each caller, each kind

[[noreturn]] void die(const std::string& message) {
  std::fprintf(stderr, "bench_offload: %s\n", message.c_str());
  std::exit(1);
}

void check(const OrtApi& ort, OrtStatus* status) {
  if (status != nullptr) die(ort.GetErrorMessage(status));
}

using GetApiBase = const OrtApiBase* (*)();
using Dlsym = void* (*)(void*, const char*);

// The C library's own dlsym, past any that was preloaded.
Dlsym real_dlsym() {
  void* libc = dlopen("libc.so.6", RTLD_NOLOAD | RTLD_LAZY);
  for (const char* version : {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"})
    if (void* found = libc == nullptr ? nullptr : dlvsym(libc, "dlsym", version))
      return reinterpret_cast<Dlsym>(found);
  die("the C library has no dlsym of a known version");
}

struct Tensor {
  std::vector<std::int64_t> dims;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<char> bytes;
  std::string name;
};

// A session with its inputs, through one of the tables.
class Model {
 public:
  Model(const OrtApi& ort, OrtEnv* env, const char* path, int threads) : ort_(ort) {
    OrtSessionOptions* options = nullptr;
    check(ort, ort.CreateSessionOptions(&options));
    if (threads > 0) check(ort, ort.SetIntraOpNumThreads(options, threads));
    check(ort, ort.CreateSession(env, path, options, &session_));
    ort.ReleaseSessionOptions(options);
    check(ort, ort.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory_));
    read_signature();
  }

  // One Run; the caller's own outputs are made and freed within. Returns microseconds.
  double run(std::vector<float>* first_output = nullptr) const {
    std::vector<OrtValue*> outputs(output_names_.size(), nullptr);
    const auto begin = std::chrono::steady_clock::now();
    check(ort_, ort_.Run(session_, nullptr, input_names_.data(), values_.data(), values_.size(),
                         output_names_.data(), output_names_.size(), outputs.data()));
    const auto end = std::chrono::steady_clock::now();
    if (first_output != nullptr) copy_floats(outputs[0], *first_output);
    for (OrtValue* output : outputs) ort_.ReleaseValue(output);
    return std::chrono::duration<double, std::micro>(end - begin).count();
  }

 private:
  void read_signature() {
    OrtAllocator* allocator = nullptr;
    check(ort_, ort_.GetAllocatorWithDefaultOptions(&allocator));
    std::size_t inputs = 0, outputs = 0;
    check(ort_, ort_.SessionGetInputCount(session_, &inputs));
    check(ort_, ort_.SessionGetOutputCount(session_, &outputs));
    tensors_.resize(inputs);
    for (std::size_t i = 0; i < inputs; ++i) make_input(i, allocator);
    for (const Tensor& tensor : tensors_) input_names_.push_back(tensor.name.c_str());
    for (std::size_t i = 0; i < outputs; ++i) {
      char* name = nullptr;
      check(ort_, ort_.SessionGetOutputName(session_, i, allocator, &name));
      output_names_.push_back(name);  // lives as long as the program
    }
  }

  void make_input(std::size_t index, OrtAllocator* allocator) {
    Tensor& tensor = tensors_[index];
    char* name = nullptr;
    check(ort_, ort_.SessionGetInputName(session_, index, allocator, &name));
    tensor.name = name;
    OrtTypeInfo* info = nullptr;
    check(ort_, ort_.SessionGetInputTypeInfo(session_, index, &info));
    const OrtTensorTypeAndShapeInfo* shape = nullptr;
    check(ort_, ort_.CastTypeInfoToTensorInfo(info, &shape));
    std::size_t rank = 0;
    check(ort_, ort_.GetDimensionsCount(shape, &rank));
    tensor.dims.resize(rank);
    check(ort_, ort_.GetDimensions(shape, tensor.dims.data(), rank));
    check(ort_, ort_.GetTensorElementType(shape, &tensor.type));
    ort_.ReleaseTypeInfo(info);
    std::size_t count = 1;
    for (std::int64_t& dim : tensor.dims) {
      // Open dimensions: a batch of one, a sequence of 128.
      if (dim < 0) dim = &dim == &tensor.dims.front() ? 1 : 128;
      count *= static_cast<std::size_t>(dim);
    }
    std::mt19937_64 random(index + 1);
    if (tensor.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
      tensor.bytes.resize(count * sizeof(float));
      std::uniform_real_distribution<float> uniform(0, 1);
      for (std::size_t i = 0; i < count; ++i) {
        const float value = uniform(random);
        std::memcpy(&tensor.bytes[i * sizeof value], &value, sizeof value);
      }
    } else if (tensor.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64) {
      tensor.bytes.resize(count * sizeof(std::int64_t));
      for (std::size_t i = 0; i < count; ++i) tensor.bytes[i * 8] = static_cast<char>(random() & 1);
    } else {
      die("the input (" + tensor.name + ") is neither float nor int64");
    }
    OrtValue* value = nullptr;
    check(ort_,
          ort_.CreateTensorWithDataAsOrtValue(memory_, tensor.bytes.data(), tensor.bytes.size(),
                                              tensor.dims.data(), rank, tensor.type, &value));
    values_.push_back(value);
  }

  void copy_floats(OrtValue* value, std::vector<float>& out) const {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(ort_, ort_.GetTensorTypeAndShape(value, &info));
    std::size_t count = 0;
    check(ort_, ort_.GetTensorShapeElementCount(info, &count));
    ort_.ReleaseTensorTypeAndShapeInfo(info);
    void* data = nullptr;
    check(ort_, ort_.GetTensorMutableData(value, &data));
    const float* floats = static_cast<const float*>(data);
    out.assign(floats, floats + count);
  }

  const OrtApi& ort_;
  OrtSession* session_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  std::vector<Tensor> tensors_;
  std::vector<OrtValue*> values_;
  std::vector<const char*> input_names_, output_names_;
};

double cpu_us() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto us = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_usec);
  };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

using Times = std::vector<double>;

// A pool of callers that make Runs of the model they are given until a block is over.
class Callers {
 public:
  explicit Callers(int count) : begin_(count + 1), end_(count + 1), times_(count) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this, i] { work(times_[i]); });
  }
  ~Callers() {
    model_ = nullptr;
    begin_.arrive_and_wait();
    for (std::thread& thread : threads_) thread.join();
  }

  // `runs` each where it is not 0.
  Times block(const Model& model, std::size_t runs = 0) {
    model_ = &model;
    runs_ = runs;
    begin_.arrive_and_wait();
    end_.arrive_and_wait();
    Times all;
    for (Times& times : times_) {
      all.insert(all.end(), times.begin(), times.end());
      times.clear();
    }
    return all;
  }

 private:
  void work(Times& times) {
    for (;;) {
      begin_.arrive_and_wait();
      if (model_ == nullptr) return;
      const auto limit =
          std::chrono::steady_clock::now() + std::chrono::duration<double, std::milli>(kBlockMs);
      do {
        times.push_back(model_->run());
      } while (runs_ > 0 ? times.size() < runs_
                         : times.size() < kBlockRuns && std::chrono::steady_clock::now() < limit);
      end_.arrive_and_wait();
    }
  }

  std::barrier<> begin_, end_;
  std::vector<Times> times_;
  const Model* model_ = nullptr;
  std::size_t runs_ = 0;
  std::vector<std::thread> threads_;
};

void print_times(const char* name, const Times& times) {
  std::printf("\"%s\": [", name);
  for (std::size_t i = 0; i < times.size(); ++i) std::printf("%s%.2f", i == 0 ? "" : ",", times[i]);
  std::printf("]");
}

double largest_difference(const Model& a, const Model& b) {
  std::vector<float> one, two;
  a.run(&one);
  b.run(&two);
  if (one.size() != two.size()) die("the outputs differ in size");
  double largest = 0;
  for (std::size_t i = 0; i < one.size(); ++i)
    largest = std::max(largest, double{std::abs(one[i] - two[i])});
  return largest;
}

void measure(const Model& in_process, const Model& outboard, int count, double seconds) {
  Callers callers(count);
  callers.block(in_process, kWarmUpRuns);
  callers.block(outboard, kWarmUpRuns);
  std::mt19937 random(1);
  double cpu[2] = {0, 0};
  std::size_t runs[2] = {0, 0};
  const auto begin = std::chrono::steady_clock::now();
  std::printf("\"pairs\": [");
  for (int pair = 0;; ++pair) {
    const double elapsed_s =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (pair >= kLeastPairs && elapsed_s >= seconds) break;
    Times times[2];
    const int first = static_cast<int>(random() & 1);
    for (const int kind : {first, 1 - first}) {
      const double cpu_before = cpu_us();
      times[kind] = callers.block(kind == 0 ? in_process : outboard);
      cpu[kind] += cpu_us() - cpu_before;
      runs[kind] += times[kind].size();
    }
    std::printf("%s{", pair == 0 ? "" : ",\n");
    print_times("in_process_us", times[0]);
    std::printf(", ");
    print_times("outboard_us", times[1]);
    std::printf("}");
  }
  std::printf("],\n\"cpu_us_per_run\": {\"in_process\": %.2f, \"outboard\": %.2f},\n",
              cpu[0] / static_cast<double>(runs[0]), cpu[1] / static_cast<double>(runs[1]));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) die("usage: bench_offload LIBRARY MODEL CALLERS SECONDS [THREADS]");
  const char* path = argv[2];
  const int callers = std::atoi(argv[3]);
  const double seconds = std::atof(argv[4]);
  const int threads = argc > 5 ? std::atoi(argv[5]) : 0;
  if (callers < 1 || callers > 256) die("CALLERS must be between 1 and 256");

  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) die(dlerror());
  const auto real_base = reinterpret_cast<GetApiBase>(real_dlsym()(library, "OrtGetApiBase"));
  if (real_base == nullptr) die("the library has no OrtGetApiBase");
  // A copy, taken before the table is anybody else's.
  const OrtApi own = *real_base()->GetApi(ORT_API_VERSION);
  const auto base = reinterpret_cast<GetApiBase>(dlsym(library, "OrtGetApiBase"));
  const OrtApi& programs = *base()->GetApi(ORT_API_VERSION);

  OrtEnv* env = nullptr;
  check(own, own.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bench", &env));
  const Model in_process(own, env, path, threads);
  const Model outboard(programs, env, path, threads);
  std::printf("{\"model\": \"%s\", \"callers\": %d,\n", path, callers);
  measure(in_process, outboard, callers, seconds);
  std::printf("\"largest_difference\": %g}\n", largest_difference(in_process, outboard));
  return 0;
}
