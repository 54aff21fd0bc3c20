// SPDX-License-Identifier: Apache-2.0
// A slot of the API table is a plain function pointer without room for a context, so each runtime
// of the process gets an instance of every hook of its own, by a template over its number.
#include "intercept/onnxruntime/hooks.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <mutex>

#include "base/log.h"
#include "intercept/onnxruntime/option_marks.h"
#include "intercept/onnxruntime/provider_hooks.h"
#include "intercept/onnxruntime/session_hooks.h"

namespace outboard::intercept::onnxruntime {
namespace {

std::array<Runtime*, kMaxRuntimes> hooked_runtimes{};

template <int N>
struct Hooks {
  static Runtime& runtime() { return *hooked_runtimes[N]; }
  static const OrtApi& ort() { return runtime().ort; }

  // ---- sessions

  static OrtStatus* CreateSession(const OrtEnv* env, const char* path,
                                  const OrtSessionOptions* options, OrtSession** out) noexcept {
    return create_session(
        runtime(), env, {path, {}}, options,
        [&](OrtSession** session) { return ort().CreateSession(env, path, options, session); },
        out);
  }

  static OrtStatus* CreateSessionFromArray(const OrtEnv* env, const void* model, std::size_t size,
                                           const OrtSessionOptions* options,
                                           OrtSession** out) noexcept {
    return create_session(
        runtime(), env, {{}, bytes(model, size)}, options,
        [&](OrtSession** session) {
          return ort().CreateSessionFromArray(env, model, size, options, session);
        },
        out);
  }

  static OrtStatus* CreateSessionWithPrepackedWeightsContainer(
      const OrtEnv* env, const char* path, const OrtSessionOptions* options,
      OrtPrepackedWeightsContainer* prepacked, OrtSession** out) noexcept {
    return create_session(
        runtime(), env, {path, {}}, options,
        [&](OrtSession** session) {
          return ort().CreateSessionWithPrepackedWeightsContainer(env, path, options, prepacked,
                                                                  session);
        },
        out);
  }

  static OrtStatus* CreateSessionFromArrayWithPrepackedWeightsContainer(
      const OrtEnv* env, const void* model, std::size_t size, const OrtSessionOptions* options,
      OrtPrepackedWeightsContainer* prepacked, OrtSession** out) noexcept {
    return create_session(
        runtime(), env, {{}, bytes(model, size)}, options,
        [&](OrtSession** session) {
          return ort().CreateSessionFromArrayWithPrepackedWeightsContainer(
              env, model, size, options, prepacked, session);
        },
        out);
  }

  static void ReleaseSession(OrtSession* session) noexcept {
    release_session(runtime(), session);
    Process::current().report_so_far();
  }

  static void ReleaseEnv(OrtEnv* env) noexcept {
    ort().ReleaseEnv(env);
    Process::current().report_so_far();
  }

  static OrtStatus* SessionEndProfiling(OrtSession* session, OrtAllocator* allocator,
                                        char** out) noexcept {
    return end_profiling(runtime(), session, allocator, out);
  }

  // ---- Runs

  static OrtStatus* Run(OrtSession* session, const OrtRunOptions* options,
                        const char* const* input_names, const OrtValue* const* inputs,
                        std::size_t input_count, const char* const* output_names,
                        std::size_t output_count, OrtValue** outputs) noexcept {
    return run_session(runtime(), {session, options, input_names, inputs, input_count, output_names,
                                   output_count, outputs});
  }

  static OrtStatus* RunAsync(OrtSession* session, const OrtRunOptions* options,
                             const char* const* input_names, const OrtValue* const* inputs,
                             std::size_t input_count, const char* const* output_names,
                             std::size_t output_count, OrtValue** outputs,
                             RunAsyncCallbackFn callback, void* user_data) noexcept {
    return run_session_async(
        runtime(),
        {session, options, input_names, inputs, input_count, output_names, output_count, outputs},
        callback, user_data);
  }

  static OrtStatus* RunWithBinding(OrtSession* session, const OrtRunOptions* options,
                                   const OrtIoBinding* binding) noexcept {
    return run_session_with_binding(runtime(), session, options, binding);
  }

  static OrtStatus* RunOptionsSetTerminate(OrtRunOptions* options) noexcept {
    // The flag first: a Run that begins in between sees it.
    OrtStatus* status = ort().RunOptionsSetTerminate(options);
    Process::current().cancels().cancel(options);
    return status;
  }

  // ---- session options

  // Records `value` under `name` when the library's own setter has succeeded.
  static OrtStatus* marked(OrtStatus* status, OrtSessionOptions* options, const char* name,
                           std::string_view value) {
    if (status == nullptr) mark(runtime(), options, name, value);
    return status;
  }
  static OrtStatus* stays_here(OrtStatus* status, OrtSessionOptions* options, const char* why) {
    return marked(status, options, marks::kStaysLocal, why);
  }

  static OrtStatus* SetSessionGraphOptimizationLevel(OrtSessionOptions* options,
                                                     GraphOptimizationLevel level) noexcept {
    return marked(ort().SetSessionGraphOptimizationLevel(options, level), options,
                  marks::kOptimizationLevel, std::to_string(static_cast<int>(level)));
  }
  static OrtStatus* EnableProfiling(OrtSessionOptions* options, const char* prefix) noexcept {
    return marked(ort().EnableProfiling(options, prefix), options, marks::kProfiling, "1");
  }
  static OrtStatus* DisableProfiling(OrtSessionOptions* options) noexcept {
    return marked(ort().DisableProfiling(options), options, marks::kProfiling, "0");
  }
  static OrtStatus* SetSessionExecutionMode(OrtSessionOptions* options,
                                            ExecutionMode mode) noexcept {
    return marked(ort().SetSessionExecutionMode(options, mode), options, marks::kExecutionMode,
                  mode == ORT_PARALLEL ? "1" : "0");
  }
  static OrtStatus* SetIntraOpNumThreads(OrtSessionOptions* options, int threads) noexcept {
    return marked(ort().SetIntraOpNumThreads(options, threads), options, marks::kIntraOpThreads,
                  std::to_string(threads));
  }
  static OrtStatus* AddSessionConfigEntry(OrtSessionOptions* options, const char* key,
                                          const char* value) noexcept {
    OrtStatus* status = ort().AddSessionConfigEntry(options, key, value);
    if (status == nullptr) mark(runtime(), options, marks::kConfigKeys, key);
    return status;
  }
  static OrtStatus* AddFreeDimensionOverride(OrtSessionOptions* options, const char* denotation,
                                             std::int64_t size) noexcept {
    OrtStatus* status = ort().AddFreeDimensionOverride(options, denotation, size);
    if (status == nullptr) {
      mark(runtime(), options, marks::kFreeDimensions, fmt::format("d:{}:{}", size, denotation));
    }
    return status;
  }
  static OrtStatus* AddFreeDimensionOverrideByName(OrtSessionOptions* options, const char* name,
                                                   std::int64_t size) noexcept {
    OrtStatus* status = ort().AddFreeDimensionOverrideByName(options, name, size);
    if (status == nullptr) {
      mark(runtime(), options, marks::kFreeDimensions, fmt::format("n:{}:{}", size, name));
    }
    return status;
  }
  static OrtStatus* SetOptimizedModelFilePath(OrtSessionOptions* options,
                                              const char* path) noexcept {
    return stays_here(ort().SetOptimizedModelFilePath(options, path), options,
                      *path == '\0' ? "" : "it asks for the optimised model to be written");
  }

  static constexpr const char* kOwnOperators = "it brings the program's own operators";
  static constexpr const char* kOwnWeights = "it brings initializers from the program's memory";

  static OrtStatus* AddCustomOpDomain(OrtSessionOptions* options,
                                      OrtCustomOpDomain* domain) noexcept {
    return stays_here(ort().AddCustomOpDomain(options, domain), options, kOwnOperators);
  }
  static OrtStatus* RegisterCustomOpsLibrary(OrtSessionOptions* options, const char* path,
                                             void** handle) noexcept {
    return stays_here(ort().RegisterCustomOpsLibrary(options, path, handle), options,
                      kOwnOperators);
  }
  static OrtStatus* RegisterCustomOpsLibrary_V2(OrtSessionOptions* options,
                                                const char* path) noexcept {
    return stays_here(ort().RegisterCustomOpsLibrary_V2(options, path), options, kOwnOperators);
  }
  static OrtStatus* RegisterCustomOpsUsingFunction(OrtSessionOptions* options,
                                                   const char* name) noexcept {
    return stays_here(ort().RegisterCustomOpsUsingFunction(options, name), options, kOwnOperators);
  }
  static OrtStatus* EnableOrtCustomOps(OrtSessionOptions* options) noexcept {
    return stays_here(ort().EnableOrtCustomOps(options), options, kOwnOperators);
  }
  static OrtStatus* AddInitializer(OrtSessionOptions* options, const char* name,
                                   const OrtValue* value) noexcept {
    return stays_here(ort().AddInitializer(options, name, value), options, kOwnWeights);
  }
  static OrtStatus* AddExternalInitializers(OrtSessionOptions* options, const char* const* names,
                                            const OrtValue* const* values,
                                            std::size_t count) noexcept {
    return stays_here(ort().AddExternalInitializers(options, names, values, count), options,
                      kOwnWeights);
  }
  static OrtStatus* AddExternalInitializersFromFilesInMemory(OrtSessionOptions* options,
                                                             const char* const* names,
                                                             char* const* buffers,
                                                             const std::size_t* lengths,
                                                             std::size_t count) noexcept {
    return stays_here(
        ort().AddExternalInitializersFromFilesInMemory(options, names, buffers, lengths, count),
        options, kOwnWeights);
  }

  static std::span<const std::byte> bytes(const void* data, std::size_t size) {
    return {static_cast<const std::byte*>(data), size};
  }

  static void write(OrtApi& table, std::uint32_t api_version) {
#define OUTBOARD_HOOK(slot) (table.slot = &Hooks::slot)
    OUTBOARD_HOOK(CreateSession);
    OUTBOARD_HOOK(CreateSessionFromArray);
    OUTBOARD_HOOK(CreateSessionWithPrepackedWeightsContainer);
    OUTBOARD_HOOK(CreateSessionFromArrayWithPrepackedWeightsContainer);
    OUTBOARD_HOOK(ReleaseSession);
    OUTBOARD_HOOK(ReleaseEnv);
    OUTBOARD_HOOK(Run);
    OUTBOARD_HOOK(RunAsync);
    OUTBOARD_HOOK(RunWithBinding);
    OUTBOARD_HOOK(RunOptionsSetTerminate);
    OUTBOARD_HOOK(SetSessionGraphOptimizationLevel);
    OUTBOARD_HOOK(EnableProfiling);
    OUTBOARD_HOOK(DisableProfiling);
    OUTBOARD_HOOK(SessionEndProfiling);
    OUTBOARD_HOOK(SetSessionExecutionMode);
    OUTBOARD_HOOK(SetIntraOpNumThreads);
    OUTBOARD_HOOK(AddSessionConfigEntry);
    OUTBOARD_HOOK(AddFreeDimensionOverride);
    OUTBOARD_HOOK(AddFreeDimensionOverrideByName);
    OUTBOARD_HOOK(SetOptimizedModelFilePath);
    OUTBOARD_HOOK(AddCustomOpDomain);
    OUTBOARD_HOOK(RegisterCustomOpsLibrary);
    OUTBOARD_HOOK(RegisterCustomOpsLibrary_V2);
    OUTBOARD_HOOK(RegisterCustomOpsUsingFunction);
    OUTBOARD_HOOK(EnableOrtCustomOps);
    OUTBOARD_HOOK(AddInitializer);
    OUTBOARD_HOOK(AddExternalInitializers);
    if (api_version >= 18) OUTBOARD_HOOK(AddExternalInitializersFromFilesInMemory);
    write_provider_hooks(runtime(), table);
#undef OUTBOARD_HOOK
  }
};

using WriteHooks = void (*)(OrtApi&, std::uint32_t);
constexpr std::array<WriteHooks, kMaxRuntimes> kWriters = {&Hooks<0>::write, &Hooks<1>::write,
                                                           &Hooks<2>::write, &Hooks<3>::write};

// The table lies in memory that the loader made read-only after relocation. It stays writable: to
// make it read-only again would need to know whether it was.
bool make_writable(const OrtApi* table) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t into_page = reinterpret_cast<std::uintptr_t>(table) % page;
  char* begin = reinterpret_cast<char*>(const_cast<OrtApi*>(table)) - into_page;
  return ::mprotect(begin, into_page + sizeof(OrtApi), PROT_READ | PROT_WRITE) == 0;
}

}  // namespace

void install_hooks(Runtime& runtime) {
  static std::mutex mutex;
  [[maybe_unused]] static const int handlers =
      pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
  const std::lock_guard lock(mutex);
  Runtime*& hooked = hooked_runtimes[static_cast<std::size_t>(runtime.index)];
  if (hooked != nullptr) return;
  const OrtApi* table =
      runtime.base->GetApi(std::min<std::uint32_t>(runtime.api_version, ORT_API_VERSION));
  if (!make_writable(table)) {
    log_warn("the table of ONNX Runtime {} cannot be written; its sessions stay here",
             runtime.version);
    return;
  }
  hooked = &runtime;
  kWriters[static_cast<std::size_t>(runtime.index)](const_cast<OrtApi&>(*table),
                                                    runtime.api_version);
}

}  // namespace outboard::intercept::onnxruntime
