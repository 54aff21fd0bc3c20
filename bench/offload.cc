// SPDX-License-Identifier: Apache-2.0
// Runs of one model by ONNX Runtime's C API: in this process, or, under `outboard run`, on a
// server. The program is the same for both, and knows nothing of Outboard. See worker.h for how it
// is told to work.
//
//   bench_offload LIBRARY MODEL [THREADS]
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include "bench/worker.h"

namespace {

using bench::die;
using GetApiBase = const OrtApiBase* (*)();

void check(const OrtApi& ort, OrtStatus* status) {
  if (status != nullptr) die(ort.GetErrorMessage(status));
}

struct Model {
  Model(const OrtApi& api, const char* path, int threads) : ort(api) {
    check(ort, ort.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bench", &env));
    OrtSessionOptions* options = nullptr;
    check(ort, ort.CreateSessionOptions(&options));
    if (threads > 0) check(ort, ort.SetIntraOpNumThreads(options, threads));
    check(ort, ort.CreateSession(env, path, options, &session));
    ort.ReleaseSessionOptions(options);
    check(ort, ort.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    OrtAllocator* allocator = nullptr;
    check(ort, ort.GetAllocatorWithDefaultOptions(&allocator));
    std::size_t inputs = 0, outputs = 0;
    check(ort, ort.SessionGetInputCount(session, &inputs));
    check(ort, ort.SessionGetOutputCount(session, &outputs));
    data.resize(inputs);
    for (std::size_t i = 0; i < inputs; ++i) make_input(i, allocator);
    for (std::size_t i = 0; i < outputs; ++i) {
      char* name = nullptr;
      check(ort, ort.SessionGetOutputName(session, i, allocator, &name));
      output_names.push_back(name);  // lives as long as the program
    }
  }

  void make_input(std::size_t index, OrtAllocator* allocator) {
    char* name = nullptr;
    check(ort, ort.SessionGetInputName(session, index, allocator, &name));
    input_names.push_back(name);
    OrtTypeInfo* info = nullptr;
    check(ort, ort.SessionGetInputTypeInfo(session, index, &info));
    const OrtTensorTypeAndShapeInfo* shape = nullptr;
    check(ort, ort.CastTypeInfoToTensorInfo(info, &shape));
    std::size_t rank = 0;
    check(ort, ort.GetDimensionsCount(shape, &rank));
    std::vector<std::int64_t> dims(rank);
    check(ort, ort.GetDimensions(shape, dims.data(), rank));
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    check(ort, ort.GetTensorElementType(shape, &type));
    ort.ReleaseTypeInfo(info);
    if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)
      die(std::string("the input (") + name + ") is neither float nor int64");
    const std::size_t count = bench::close_dims(dims);
    data[index] = bench::input_bytes(index, type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, count);
    OrtValue* value = nullptr;
    check(ort, ort.CreateTensorWithDataAsOrtValue(memory, data[index].data(), data[index].size(),
                                                  dims.data(), rank, type, &value));
    values.push_back(value);
  }

  const OrtApi& ort;
  OrtEnv* env = nullptr;
  OrtSession* session = nullptr;
  OrtMemoryInfo* memory = nullptr;
  std::vector<std::string> data;
  std::vector<OrtValue*> values;
  std::vector<const char*> input_names, output_names;
};

class SessionCaller final : public bench::Caller {
 public:
  explicit SessionCaller(const Model& model)
      : model_(model), outputs_(model.output_names.size(), nullptr) {}
  void run() override {
    check(model_.ort, model_.ort.Run(model_.session, nullptr, model_.input_names.data(),
                                     model_.values.data(), model_.values.size(),
                                     model_.output_names.data(), outputs_.size(), outputs_.data()));
  }
  void release() override {
    for (OrtValue*& output : outputs_) {
      model_.ort.ReleaseValue(output);
      output = nullptr;
    }
  }
  std::uint64_t hash() override {
    run();
    std::uint64_t hash = bench::kHashStart;
    for (OrtValue* output : outputs_) {
      OrtTensorTypeAndShapeInfo* info = nullptr;
      check(model_.ort, model_.ort.GetTensorTypeAndShape(output, &info));
      std::size_t count = 0;
      check(model_.ort, model_.ort.GetTensorShapeElementCount(info, &count));
      model_.ort.ReleaseTensorTypeAndShapeInfo(info);
      void* data = nullptr;
      check(model_.ort, model_.ort.GetTensorMutableData(output, &data));
      hash = bench::hash_of(data, count * sizeof(float), hash);  // outputs of all models are floats
    }
    release();
    return hash;
  }

 private:
  const Model& model_;
  std::vector<OrtValue*> outputs_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) die("usage: bench_offload LIBRARY MODEL [THREADS]");
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) die(dlerror());
  const auto base = reinterpret_cast<GetApiBase>(dlsym(library, "OrtGetApiBase"));
  if (base == nullptr) die("the library has no OrtGetApiBase");
  const OrtApi& ort = *base()->GetApi(ORT_API_VERSION);
  const auto begin = bench::Clock::now();
  const Model model(ort, argv[2], argc > 3 ? std::atoi(argv[3]) : 0);
  const double create_ms = bench::us_since(begin) / 1e3;
  return bench::Worker([&] { return std::make_unique<SessionCaller>(model); }).serve(create_ms);
}
