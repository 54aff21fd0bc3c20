// SPDX-License-Identifier: Apache-2.0
#include "tests/split/runner.h"

#define ORT_API_MANUAL_INIT
#include <dlfcn.h>
#include <onnxruntime_cxx_api.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace outboard::split::testing {
namespace {

bool load() {
  const char* deps = std::getenv("OUTBOARD_DEPS");
  const std::filesystem::path lib = std::filesystem::path(deps ? deps : "build/deps") / "venv/lib";
  std::error_code ignored;
  for (const auto& python : std::filesystem::directory_iterator(lib, ignored)) {
    const auto capi = python.path() / "site-packages/onnxruntime/capi";
    for (const auto& file : std::filesystem::directory_iterator(capi, ignored)) {
      if (!file.path().filename().string().starts_with("libonnxruntime.so")) continue;
      void* handle = ::dlopen(file.path().c_str(), RTLD_NOW | RTLD_LOCAL);
      if (!handle) continue;
      auto get = reinterpret_cast<const OrtApiBase* (*)()>(::dlsym(handle, "OrtGetApiBase"));
      const OrtApi* api = get ? get()->GetApi(ORT_API_VERSION) : nullptr;
      if (!api) continue;
      Ort::InitApi(api);
      return true;
    }
  }
  return false;
}

Ort::Env& environment() {
  static auto* env = new Ort::Env(ORT_LOGGING_LEVEL_ERROR, "test");
  return *env;
}

Ort::Session open(const std::string& bytes, bool optimise) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  options.SetGraphOptimizationLevel(optimise ? ORT_ENABLE_ALL : ORT_DISABLE_ALL);
  return {environment(), bytes.data(), bytes.size(), options};
}

}  // namespace

bool runtime_available() {
  static const bool loaded = load();
  return loaded;
}

Values run_model(const std::string& bytes, const Values& inputs, bool optimise) {
  runtime_available();
  auto session = open(bytes, optimise);
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::AllocatorWithDefaultOptions allocator;
  std::vector<std::string> in_names, out_names;
  std::vector<Ort::Value> values;
  for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
    in_names.emplace_back(session.GetInputNameAllocated(i, allocator).get());
    const Value& v = inputs.at(in_names.back());
    if (v.ints.empty())
      values.push_back(Ort::Value::CreateTensor<float>(memory, const_cast<float*>(v.floats.data()),
                                                       v.floats.size(), v.shape.data(),
                                                       v.shape.size()));
    else
      values.push_back(
          Ort::Value::CreateTensor<std::int64_t>(memory, const_cast<std::int64_t*>(v.ints.data()),
                                                 v.ints.size(), v.shape.data(), v.shape.size()));
  }
  for (std::size_t i = 0; i < session.GetOutputCount(); ++i)
    out_names.emplace_back(session.GetOutputNameAllocated(i, allocator).get());
  std::vector<const char*> in, out;
  for (const auto& n : in_names) in.push_back(n.c_str());
  for (const auto& n : out_names) out.push_back(n.c_str());
  auto results = session.Run(Ort::RunOptions{nullptr}, in.data(), values.data(), values.size(),
                             out.data(), out.size());
  Values outputs;
  for (std::size_t i = 0; i < results.size(); ++i) {
    Value v;
    const auto info = results[i].GetTensorTypeAndShapeInfo();
    v.shape = info.GetShape();
    const std::size_t n = info.GetElementCount();
    if (info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64) {
      const auto* p = results[i].GetTensorData<std::int64_t>();
      v.ints.assign(p, p + n);
    } else if (info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
      const auto* p = results[i].GetTensorData<float>();
      v.floats.assign(p, p + n);
    } else {
      throw std::runtime_error("an output of a type that the tests do not read: " + out_names[i]);
    }
    outputs[out_names[i]] = std::move(v);
  }
  return outputs;
}

std::map<std::string, std::vector<std::int64_t>> infer_output_shapes(const std::string& bytes) {
  runtime_available();
  auto session = open(bytes, false);
  Ort::AllocatorWithDefaultOptions allocator;
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (std::size_t i = 0; i < session.GetOutputCount(); ++i)
    shapes[session.GetOutputNameAllocated(i, allocator).get()] =
        session.GetOutputTypeInfo(i).GetTensorTypeAndShapeInfo().GetShape();
  return shapes;
}

}  // namespace outboard::split::testing
