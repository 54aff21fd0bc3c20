// SPDX-License-Identifier: Apache-2.0
// An ordinary program that uses ONNX Runtime's C++ API and knows nothing of Outboard. The tests run
// it plainly and under `outboard run` and compare what it prints.
//
//   program cases MODEL...       all ways to run each model, everything it can see of a session
//   program repeat MODEL N [OUTPUT]   N Runs on one thread, for one output or all
//   program load MODEL THREADS   Runs on THREADS threads until standard input ends; counts failures
//   program fork MODEL           Runs in children forked from a thread
//
// Built twice: linked with the library, and (PROGRAM_DLOPEN) loading the path in PROGRAM_ORT with
// RTLD_LOCAL.
#ifdef PROGRAM_DLOPEN
#define ORT_API_MANUAL_INIT
#include <dlfcn.h>
#endif
#include <onnxruntime_cxx_api.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

std::string hash(const void* data, std::size_t size) {
  std::uint64_t value = 14695981039346656037u;  // FNV-1a
  for (std::size_t i = 0; i < size; ++i)
    value = (value ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
  char text[32];
  std::snprintf(text, sizeof text, "%016lx", static_cast<unsigned long>(value));
  return text;
}

std::size_t bytes_of(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
      return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16:
      return 2;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
      return 8;
    default:
      return 4;
  }
}

std::string text_of(const Ort::Value& value) {
  if (!value.IsTensor()) return "no tensor";
  const auto info = value.GetTensorTypeAndShapeInfo();
  std::string text = std::to_string(info.GetElementType()) + "[";
  for (const auto dim : info.GetShape()) text += std::to_string(dim) + ",";
  text += "] ";
  const std::size_t count = info.GetElementCount();
  if (info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
    for (std::size_t i = 0; i < count; ++i) text += "'" + value.GetStringTensorElement(i) + "' ";
    return text;
  }
  return text + hash(value.GetTensorRawData(), count * bytes_of(info.GetElementType()));
}

struct Model {
  explicit Model(Ort::Session& s) : session(s) {
    Ort::AllocatorWithDefaultOptions allocator;
    for (std::size_t i = 0; i < s.GetInputCount(); ++i)
      inputs.emplace_back(s.GetInputNameAllocated(i, allocator).get());
    for (std::size_t i = 0; i < s.GetOutputCount(); ++i)
      outputs.emplace_back(s.GetOutputNameAllocated(i, allocator).get());
    for (const auto& name : inputs) input_names.push_back(name.c_str());
    for (const auto& name : outputs) output_names.push_back(name.c_str());
  }
  Ort::Session& session;
  std::vector<std::string> inputs, outputs;
  std::vector<const char*> input_names, output_names;
};

std::string type_text(const Ort::TypeInfo& type) {
  std::string text = std::to_string(type.GetONNXType());
  if (type.GetONNXType() != ONNX_TYPE_TENSOR) return text;
  const auto info = type.GetTensorTypeAndShapeInfo();
  text += ":" + std::to_string(info.GetElementType());
  const auto dims = info.GetShape();
  std::vector<const char*> names(dims.size());
  info.GetSymbolicDimensions(names.data(), names.size());
  for (std::size_t i = 0; i < dims.size(); ++i)
    text += " " + std::to_string(dims[i]) + "'" + names[i] + "'";
  return text;
}

void describe(Ort::Session& session, const Model& model) {
  for (std::size_t i = 0; i < model.inputs.size(); ++i)
    std::printf("  in %s %s\n", model.inputs[i].c_str(),
                type_text(session.GetInputTypeInfo(i)).c_str());
  for (std::size_t i = 0; i < model.outputs.size(); ++i)
    std::printf("  out %s %s\n", model.outputs[i].c_str(),
                type_text(session.GetOutputTypeInfo(i)).c_str());
  Ort::AllocatorWithDefaultOptions allocator;
  const auto meta = session.GetModelMetadata();
  std::printf("  meta %s|%s|%s|%s|%s|%ld\n", meta.GetProducerNameAllocated(allocator).get(),
              meta.GetGraphNameAllocated(allocator).get(),
              meta.GetGraphDescriptionAllocated(allocator).get(),
              meta.GetDomainAllocated(allocator).get(),
              meta.GetDescriptionAllocated(allocator).get(), static_cast<long>(meta.GetVersion()));
  for (const auto& key : meta.GetCustomMetadataMapKeysAllocated(allocator))
    std::printf("  meta %s=%s\n", key.get(),
                meta.LookupCustomMetadataMapAllocated(key.get(), allocator).get());
}

// Inputs that depend on nothing but the signature; unknown dimensions are 2, or 0 when `empty`.
std::vector<Ort::Value> make_inputs(Ort::Session& session, const Model& model, bool empty = false) {
  std::vector<Ort::Value> values;
  Ort::AllocatorWithDefaultOptions allocator;
  for (std::size_t i = 0; i < model.inputs.size(); ++i) {
    const auto type = session.GetInputTypeInfo(i);
    const auto info = type.GetTensorTypeAndShapeInfo();
    auto dims = info.GetShape();
    for (auto& dim : dims)
      if (dim < 0) dim = empty ? 0 : 2;
    values.push_back(
        Ort::Value::CreateTensor(allocator, dims.data(), dims.size(), info.GetElementType()));
    const std::size_t count = values.back().GetTensorTypeAndShapeInfo().GetElementCount();
    if (info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
      for (std::size_t k = 0; k < count; ++k)
        values.back().FillStringTensorElement(("s" + std::string(k, 'x')).c_str(), k);
      continue;
    }
    auto* bytes = static_cast<unsigned char*>(values.back().GetTensorMutableRawData());
    const std::size_t size = bytes_of(info.GetElementType());
    const bool real = info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    for (std::size_t k = 0; k < count; ++k) {
      std::memset(bytes + k * size, 0, size);
      if (real)
        reinterpret_cast<float*>(bytes)[k] = 0.25F * static_cast<float>(k % 17) - 1.5F;
      else
        bytes[k * size] = info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL
                              ? static_cast<unsigned char>(k % 2)
                              : static_cast<unsigned char>(k % 5);
    }
  }
  return values;
}

void print(const char* how, const std::vector<Ort::Value>& values) {
  std::printf("  %s:", how);
  for (const auto& value : values) std::printf(" %s", text_of(value).c_str());
  std::printf("\n");
}

template <typename Call>
void guarded(const char* how, const Call& call) {
  try {
    call();
  } catch (const Ort::Exception& e) {
    std::printf("  %s failed: %d %s\n", how, static_cast<int>(e.GetOrtErrorCode()), e.what());
  }
}

std::vector<Ort::Value> run(const Model& m, const std::vector<Ort::Value>& inputs,
                            const Ort::RunOptions& options = Ort::RunOptions{nullptr}) {
  return m.session.Run(options, m.input_names.data(), inputs.data(), inputs.size(),
                       m.output_names.data(), m.output_names.size());
}

struct AsyncRun {
  std::promise<std::string> done;
  static void finished(void* self, OrtValue** outputs, std::size_t count, OrtStatusPtr status) {
    const Ort::Status owned(status);
    std::string text = owned.IsOK() ? "" : "failed: " + owned.GetErrorMessage();
    if (!owned.IsOK()) count = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Ort::UnownedValue value(outputs[i]);
      text += std::to_string(value.GetTensorTypeAndShapeInfo().GetElementCount()) + " ";
    }
    static_cast<AsyncRun*>(self)->done.set_value(text);
  }
};

void run_every_way(const Model& m) {
  Ort::Session& session = m.session;
  const auto inputs = make_inputs(session, m);
  guarded("run", [&] { print("run", run(m, inputs)); });
  for (std::size_t i = 0; i < m.outputs.size(); ++i)
    if (session.GetOutputTypeInfo(i).GetONNXType() != ONNX_TYPE_TENSOR) return;
  guarded("empty", [&] { print("empty", run(m, make_inputs(session, m, true))); });
  for (std::size_t i = 0; i < m.outputs.size(); ++i) {
    guarded("subset", [&] {
      print("subset", session.Run(Ort::RunOptions{nullptr}, m.input_names.data(), inputs.data(),
                                  inputs.size(), &m.output_names[i], 1));
    });
  }
  guarded("preallocated", [&] {
    auto values = run(m, inputs);
    for (auto& value : values) {
      const auto info = value.GetTensorTypeAndShapeInfo();
      if (info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) continue;
      std::memset(value.GetTensorMutableRawData(), 0x55,
                  info.GetElementCount() * bytes_of(info.GetElementType()));
    }
    session.Run(Ort::RunOptions{nullptr}, m.input_names.data(), inputs.data(), inputs.size(),
                m.output_names.data(), values.data(), values.size());
    print("preallocated", values);
  });
  guarded("binding", [&] {
    Ort::IoBinding binding(session);
    for (std::size_t i = 0; i < inputs.size(); ++i) binding.BindInput(m.input_names[i], inputs[i]);
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
    binding.BindOutput(m.output_names[0], memory);
    session.Run(Ort::RunOptions{}, binding);
    print("binding", binding.GetOutputValues());
  });
  guarded("async", [&] {
    AsyncRun async;
    std::vector<OrtValue*> raw_inputs;
    for (const auto& input : inputs) raw_inputs.push_back(const_cast<Ort::Value&>(input));
    std::vector<Ort::Value> outputs;
    for (std::size_t i = 0; i < m.outputs.size(); ++i) outputs.emplace_back(nullptr);
    session.RunAsync(Ort::RunOptions{nullptr}, m.input_names.data(), inputs.data(), inputs.size(),
                     m.output_names.data(), outputs.data(), outputs.size(), &AsyncRun::finished,
                     &async);
    const std::string text = async.done.get_future().get();
    std::printf("  async: %s\n", text.c_str());
    if (text.find("failed") == std::string::npos) print("async", outputs);
  });
  // A model without inputs may be folded into a constant, and then nothing looks at the flag.
  if (m.inputs.empty()) return;
  guarded("terminated", [&] {
    Ort::RunOptions options;
    options.SetTerminate();
    guarded("terminated", [&] { run(m, inputs, options); });
    options.UnsetTerminate();
    print("not terminated", run(m, inputs, options));
  });
  guarded("wrong name", [&] {
    const char* name = "there_is_no_such_output";
    session.Run(Ort::RunOptions{nullptr}, m.input_names.data(), inputs.data(), inputs.size(), &name,
                1);
  });
}

void run_concurrently(const Model& m) {
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (auto& text : texts) {
    threads.emplace_back([&m, &text] {
      try {
        const auto inputs = make_inputs(m.session, m);
        for (int i = 0; i < 5; ++i) {
          text.clear();
          for (const auto& value : run(m, inputs)) text += text_of(value);
        }
      } catch (const Ort::Exception& e) {
        text = e.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& text : texts) std::printf("  thread %s\n", text.c_str());
}

std::string file_content(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int cases(Ort::Env& env, int count, char** paths) {
  std::vector<std::unique_ptr<Ort::Session>> kept;  // many sessions at once
  for (int i = 0; i < count; ++i) {
    const std::string name = paths[i];
    std::printf("%s\n", name.substr(name.rfind('/') + 1).c_str());
    guarded("open", [&] {
      Ort::SessionOptions options;
      options.SetGraphOptimizationLevel(i % 2 == 0 ? ORT_ENABLE_ALL : ORT_ENABLE_BASIC);
      options.SetIntraOpNumThreads(2);
      // Every other model from memory; external data needs a path.
      if (i % 2 == 1 && name.find("external") == std::string::npos) {
        std::string bytes = file_content(paths[i]);
        kept.push_back(std::make_unique<Ort::Session>(env, bytes.data(), bytes.size(), options));
        std::fill(bytes.begin(), bytes.end(), 'z');
      } else {
        kept.push_back(std::make_unique<Ort::Session>(env, paths[i], options));
      }
      const Model model(*kept.back());
      describe(*kept.back(), model);
      run_every_way(model);
      run_concurrently(model);
    });
  }
  return 0;
}

int repeat(Ort::Env& env, const char* path, int count, const char* output) {
  Ort::Session session(env, path, Ort::SessionOptions{});
  Model model(session);
  if (output != nullptr) model.output_names = {output};
  const auto inputs = make_inputs(session, model);
  std::string last;
  for (int i = 0; i < count; ++i) last = text_of(run(model, inputs).front());
  std::printf("%d %s\n", count, last.c_str());
  return 0;
}

int load(Ort::Env& env, const char* path, int thread_count) {
  Ort::Session session(env, path, Ort::SessionOptions{});
  const Model model(session);
  const std::string expected = text_of(run(model, make_inputs(session, model)).front());
  std::atomic<long> runs{0}, failed{0}, wrong{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < thread_count; ++t) {
    threads.emplace_back([&] {
      const auto inputs = make_inputs(session, model);
      while (!stop) {
        try {
          if (text_of(run(model, inputs).front()) != expected) ++wrong;
        } catch (const Ort::Exception& e) {
          if (failed++ == 0) std::fprintf(stderr, "%s\n", e.what());
        }
        ++runs;
      }
    });
  }
  while (runs < 100) std::this_thread::yield();
  std::printf("running\n");
  std::fflush(stdout);
  for (char line[16]; std::fgets(line, sizeof line, stdin) != nullptr;) {
    // A line: answer when each thread has made some more Runs.
    const long then = runs + 20L * thread_count;
    while (runs < then) std::this_thread::yield();
    std::printf("went on\n");
    std::fflush(stdout);
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  std::printf("failed %ld wrong %ld\n", failed.load(), wrong.load());
  return failed == 0 && wrong == 0 ? 0 : 1;
}

int fork_children(Ort::Env& env, const char* path) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);  // the runtime's own threads do not survive fork()
  Ort::Session session(env, path, options);
  const Model model(session);
  const auto inputs = make_inputs(session, model);
  print("parent", run(model, inputs));
  int status = 0;
  std::fflush(stdout);
  // Not from the main thread: the child's only thread is then this one.
  std::thread forker([&] {
    for (int child = 0; child < 5 && status == 0; ++child) {
      const pid_t pid = fork();
      if (pid == 0) {
        for (int i = 0; i < 3; ++i) print("child", run(model, inputs));
        std::fflush(stdout);
        _exit(0);  // the runtime's exit handlers wait for threads that the child does not have
      }
      waitpid(pid, &status, 0);
    }
  });
  forker.join();
  print("parent", run(model, inputs));
  return status == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
#ifdef PROGRAM_DLOPEN
  void* library = dlopen(std::getenv("PROGRAM_ORT"), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  const auto base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  Ort::InitApi(base()->GetApi(ORT_API_VERSION));
#endif
  const std::string what = argc > 2 ? argv[1] : "";
  Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "program");
  if (what == "cases") return cases(env, argc - 2, argv + 2);
  if (what == "repeat" && argc >= 4)
    return repeat(env, argv[2], std::stoi(argv[3]), argc > 4 ? argv[4] : nullptr);
  if (what == "load" && argc == 4) return load(env, argv[2], std::stoi(argv[3]));
  if (what == "fork") return fork_children(env, argv[2]);
  std::fprintf(stderr, "usage: program cases|repeat|load|fork MODEL...\n");
  return 2;
}
