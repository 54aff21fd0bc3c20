// SPDX-License-Identifier: Apache-2.0
// An ordinary program that makes one kind of call and prints what it sees; it knows nothing of
// Outboard. The tests run it plainly and under `outboard run`.
//
//   calls slots              for each function of the table, whether the library itself has it
//   calls terminate MODEL WAY   a Run that somebody ends: WAY is run, binding or async
//   calls CHECK MODEL...     see `main`
#include <dlfcn.h>
#include <onnxruntime_cxx_api.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "own_operator.h"

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::array<std::int64_t, 2> kShape{2, 4};
std::array<float, 8> input{0, 1, 2, 3, -4, 5, 6, 7};
const Ort::RunOptions kNoOptions{nullptr};

Ort::Value make_input() {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  return Ort::Value::CreateTensor<float>(memory, input.data(), input.size(), kShape.data(),
                                         kShape.size());
}

void print(const char* how, const Ort::Value& value) {
  std::printf("%s:", how);
  const auto info = value.GetTensorTypeAndShapeInfo();
  for (const auto dim : info.GetShape()) std::printf(" [%ld]", static_cast<long>(dim));
  for (std::size_t i = 0; i < info.GetElementCount(); ++i)
    std::printf(" %.9g", static_cast<double>(value.GetTensorData<float>()[i]));
  std::printf("\n");
}

Ort::Value run(Ort::Session& session, const Ort::RunOptions& options = kNoOptions) {
  const auto value = make_input();
  const char* in = "x";
  const char* out = "y";
  return std::move(session.Run(options, &in, &value, 1, &out, 1).front());
}

void run_and_print(const char* how, const Ort::Env& env, const char* model,
                   const Ort::SessionOptions& options) {
  try {
    Ort::Session session(env, model, options);
    print(how, run(session));
  } catch (const Ort::Exception& e) {
    std::printf("%s failed: %d %s\n", how, static_cast<int>(e.GetOrtErrorCode()), e.what());
  }
}

std::string content(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// ---- what the table says

int slots() {
  const OrtApi& api = Ort::GetApi();
  void* own = nullptr;
  Dl_info library{};
  std::memcpy(&own, &api, sizeof own);  // CreateStatus, which nobody replaces
  dladdr(own, &library);
  for (std::size_t i = 0; i * sizeof(void*) < sizeof(OrtApi); ++i) {
    void* function = nullptr;
    std::memcpy(&function, reinterpret_cast<const char*>(&api) + i * sizeof(void*),
                sizeof function);
    Dl_info info{};
    const bool same = function == nullptr ||
                      (dladdr(function, &info) != 0 && info.dli_fbase == library.dli_fbase);
    std::printf("%zu %s\n", i, same ? "own" : "replaced");
  }
  return 0;
}

// ---- ending a Run

struct Ended {
  std::promise<std::string> promise;
  static void callback(void* self, OrtValue**, std::size_t, OrtStatusPtr status) {
    const Ort::Status owned(status);
    static_cast<Ended*>(self)->promise.set_value(owned.IsOK() ? "finished"
                                                              : owned.GetErrorMessage());
  }
};

std::string run_until_ended(Ort::Session& session, const std::string& way,
                            const Ort::RunOptions& options, const std::vector<Ort::Value>& inputs) {
  const char* in = "x";
  const char* out = "y";
  try {
    if (way == "binding") {
      Ort::IoBinding binding(session);
      binding.BindInput(in, inputs.front());
      binding.BindOutput(out, Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault));
      session.Run(options, binding);
    } else if (way == "async") {
      Ended ended;
      std::vector<Ort::Value> outputs;
      outputs.emplace_back(nullptr);
      session.RunAsync(options, &in, inputs.data(), 1, &out, outputs.data(), 1, &Ended::callback,
                       &ended);
      return ended.promise.get_future().get();
    } else {
      session.Run(options, &in, inputs.data(), 1, &out, 1);
    }
  } catch (const Ort::Exception& e) {
    return e.what();
  }
  return "finished";
}

// Two lines from standard input for each Run: the first starts it, the second ends it. Says how
// long the answer took.
int terminate(Ort::Env& env, const char* model, const std::string& way) {
  Ort::Session session(env, model, Ort::SessionOptions{});
  const auto type = session.GetInputTypeInfo(0);
  const auto shape = type.GetTensorTypeAndShapeInfo().GetShape();
  std::vector<Ort::Value> inputs;
  Ort::AllocatorWithDefaultOptions allocator;
  inputs.push_back(Ort::Value::CreateTensor<float>(allocator, shape.data(), shape.size()));
  const auto count = inputs.front().GetTensorTypeAndShapeInfo().GetElementCount();
  std::fill_n(inputs.front().GetTensorMutableData<float>(), count, 0.01F);
  Ort::RunOptions options;
  for (char line[16]; std::fgets(line, sizeof line, stdin) != nullptr;) {
    options.UnsetTerminate();
    auto under_way = std::async(std::launch::async,
                                [&] { return run_until_ended(session, way, options, inputs); });
    if (std::fgets(line, sizeof line, stdin) == nullptr) return 1;
    const auto start = Clock::now();
    options.SetTerminate();
    const std::string said = under_way.get();
    std::printf("%.3f %s\n",
                std::chrono::duration<double, std::milli>(Clock::now() - start).count(),
                said.c_str());
    std::fflush(stdout);
  }
  return 0;
}

// ---- the rest, one function a kind

void every_way_to_create(Ort::Env& env, const char* model) {
  std::string bytes = content(model);
  const OrtApi& api = Ort::GetApi();
  OrtPrepackedWeightsContainer* prepacked = nullptr;
  Ort::ThrowOnError(api.CreatePrepackedWeightsContainer(&prepacked));
  {
    const Ort::SessionOptions options;
    Ort::Session by_path(env, model, options), by_bytes(env, bytes.data(), bytes.size(), options),
        path_and_weights(env, model, options, prepacked),
        bytes_and_weights(env, bytes.data(), bytes.size(), options, prepacked);
    for (Ort::Session* session : {&by_path, &by_bytes, &path_and_weights, &bytes_and_weights})
      print("created", run(*session));
  }
  api.ReleasePrepackedWeightsContainer(prepacked);
}

void free_dimensions(Ort::Env& env, const char* model) {
  Ort::SessionOptions options;
  Ort::ThrowOnError(Ort::GetApi().AddFreeDimensionOverride(options, "DATA_BATCH", 2));
  Ort::ThrowOnError(Ort::GetApi().AddFreeDimensionOverrideByName(options, "m", 4));
  Ort::Session session(env, model, options);
  for (const auto& type : {session.GetInputTypeInfo(0), session.GetOutputTypeInfo(0)})
    for (const auto dim : type.GetTensorTypeAndShapeInfo().GetShape())
      std::printf("dim %ld\n", static_cast<long>(dim));
  print("run", run(session));
}

void session_options(Ort::Env& env, const char* model) {
  Ort::SessionOptions options;
  options.SetGraphOptimizationLevel(ORT_ENABLE_BASIC);
  options.SetExecutionMode(ORT_PARALLEL);
  options.SetIntraOpNumThreads(1);
  options.SetInterOpNumThreads(2);
  options.AddConfigEntry("session.set_denormal_as_zero", "1");
  options.AddConfigEntry("session.intra_op.allow_spinning", "0");
  std::printf("entry %s %d\n", options.GetConfigEntry("session.set_denormal_as_zero").c_str(),
              static_cast<int>(options.HasConfigEntry("no.such.entry")));
  options.DisableMemPattern().DisableCpuMemArena().SetLogId("calls").SetLogSeverityLevel(4);
  options.SetDeterministicCompute(true);
  for (int i = 0; i < 2; ++i) run_and_print("options", env, model, options);
  run_and_print("clone", env, model, options.Clone());
}

void threads(const char* model) {
  Ort::ThreadingOptions threading;
  threading.SetGlobalIntraOpNumThreads(2).SetGlobalInterOpNumThreads(1).SetGlobalSpinControl(0);
  const Ort::Env env(threading, ORT_LOGGING_LEVEL_FATAL, "threads");
  Ort::SessionOptions options;
  options.DisablePerSessionThreads();
  run_and_print("global threads", env, model, options);
}

// An allocator of the program's for every session that asks for the environment's.
struct Counting : OrtAllocator {
  Counting() : OrtAllocator{} {
    version = 1;
    Ort::ThrowOnError(
        Ort::GetApi().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
    Alloc = [](OrtAllocator* self, std::size_t size) {
      ++static_cast<Counting*>(self)->count;
      return static_cast<Counting*>(self)->last = std::aligned_alloc(64, (size + 127) / 64 * 64);
    };
    Free = [](OrtAllocator*, void* block) { std::free(block); };
    Info = [](const OrtAllocator* self) -> const OrtMemoryInfo* {
      return static_cast<const Counting*>(self)->memory;
    };
  }
  OrtMemoryInfo* memory = nullptr;
  std::atomic<int> count{0};
  void* last = nullptr;
};

void custom_allocator(Ort::Env& env, const char* model) {
  Counting counting;
  Ort::ThrowOnError(Ort::GetApi().RegisterAllocator(env, &counting));
  {
    Ort::SessionOptions options;
    options.AddConfigEntry("session.use_env_allocators", "1");
    Ort::Session session(env, model, options);
    const int before = counting.count;
    const auto y = run(session);
    print("run", y);
    std::printf("output in the program's memory %d\n",
                static_cast<int>(counting.count > before && y.GetTensorRawData() == counting.last));
  }
  Ort::ThrowOnError(Ort::GetApi().UnregisterAllocator(env, counting.memory));
  Ort::GetApi().ReleaseMemoryInfo(counting.memory);
}

void log_callbacks(const char* model) {
  static std::atomic<int> of_env{0}, of_session{0};
  const Ort::Env env(
      ORT_LOGGING_LEVEL_VERBOSE, "calls",
      [](void*, OrtLoggingLevel, const char*, const char*, const char*, const char*) { ++of_env; },
      nullptr);
  Ort::SessionOptions options;
  Ort::ThrowOnError(Ort::GetApi().SetUserLoggingFunction(
      options,
      [](void*, OrtLoggingLevel, const char*, const char*, const char*, const char*) {
        ++of_session;
      },
      nullptr));
  options.SetLogSeverityLevel(0);
  run_and_print("run", env, model, options);
  std::printf("messages %d %d\n", static_cast<int>(of_env > 0), static_cast<int>(of_session > 0));
}

void own_operators(Ort::Env& env, const char* model, const char* library) {
  static const Twice twice;
  Ort::CustomOpDomain domain("test.own");
  domain.Add(&twice);
  Ort::SessionOptions by_domain;
  by_domain.Add(domain);
  run_and_print("domain", env, model, by_domain);
  Ort::SessionOptions by_library;
  by_library.RegisterCustomOpsLibrary(library);
  run_and_print("library", env, model, by_library);
  Ort::SessionOptions by_older_call;
  void* handle = nullptr;
  Ort::ThrowOnError(Ort::GetApi().RegisterCustomOpsLibrary(by_older_call, library, &handle));
  run_and_print("older call", env, model, by_older_call);
  Ort::SessionOptions by_function;
  dlopen(library, RTLD_NOW | RTLD_GLOBAL);
  by_function.RegisterCustomOpsUsingFunction("RegisterCustomOps");
  run_and_print("function", env, model, by_function);
  try {
    Ort::SessionOptions().EnableOrtCustomOps();
  } catch (const Ort::Exception& e) {
    std::printf("extensions failed: %s\n", e.what());
  }
}

void own_weights(Ort::Env& env, const char* dense, const char* external) {
  std::array<float, 12> weights{};
  weights.fill(0.5F);
  constexpr std::array<std::int64_t, 2> kWeights{4, 3};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto w = Ort::Value::CreateTensor<float>(memory, weights.data(), weights.size(),
                                                 kWeights.data(), kWeights.size());
  Ort::SessionOptions added;
  added.AddInitializer("w", w);
  run_and_print("initializer", env, dense, added);
  Ort::SessionOptions replaced;
  std::vector<Ort::Value> values;
  values.push_back(Ort::Value::CreateTensor<float>(memory, weights.data(), weights.size(),
                                                   kWeights.data(), kWeights.size()));
  replaced.AddExternalInitializers({"w"}, values);
  run_and_print("external initializer", env, external, replaced);
  Ort::SessionOptions in_memory;
  in_memory.AddExternalInitializersFromFilesInMemory(
      {"external.bin"}, {reinterpret_cast<char*>(weights.data())}, {sizeof weights});
  const std::string bytes = content(external);
  Ort::Session session(env, bytes.data(), bytes.size(), in_memory);
  print("file in memory", run(session));
}

void optimised_model(Ort::Env& env, const char* model, const char* file) {
  Ort::SessionOptions options;
  options.SetOptimizedModelFilePath(file);
  run_and_print("optimised", env, model, options);
  struct stat status{};
  std::printf("written %d\n", static_cast<int>(stat(file, &status) == 0 && status.st_size > 0));
}

void profile(Ort::Env& env, const char* model, const char* folder) {
  Ort::SessionOptions options;
  options.EnableProfiling((std::string(folder) + "/ended").c_str());
  Ort::Session session(env, model, options);
  for (int i = 0; i < 3; ++i) run(session);
  Ort::AllocatorWithDefaultOptions allocator;
  std::printf("%s\n", session.EndProfilingAllocated(allocator).get());
  options.EnableProfiling((std::string(folder) + "/released").c_str());
  run_and_print("released", env, model, options);
  options.DisableProfiling();
  run_and_print("disabled", env, model, options);
}

}  // namespace

int main(int, char** argv) {
  const std::string check = argv[1];
  if (check == "slots") return slots();
  if (check == "threads") return threads(argv[2]), 0;
  if (check == "log") return log_callbacks(argv[2]), 0;
  Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "calls");
  if (check == "terminate") return terminate(env, argv[2], argv[3]);
  if (check == "create") every_way_to_create(env, argv[2]);
  if (check == "run") run_and_print("run", env, argv[2], Ort::SessionOptions{});
  if (check == "dimensions") free_dimensions(env, argv[2]);
  if (check == "options") session_options(env, argv[2]);
  if (check == "allocator") custom_allocator(env, argv[2]);
  if (check == "operators") own_operators(env, argv[2], argv[3]);
  if (check == "weights") own_weights(env, argv[2], argv[3]);
  if (check == "optimised") optimised_model(env, argv[2], argv[3]);
  if (check == "profile") profile(env, argv[2], argv[3]);
  return 0;
}
