// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/session_hooks.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "intercept/common/profile_file.h"
#include "intercept/onnxruntime/run_frame.h"

namespace outboard::intercept::onnxruntime {
namespace {

using OwnedOptions = std::unique_ptr<OrtSessionOptions, decltype(OrtApi::ReleaseSessionOptions)>;

// Options for the stub: the program's, without what is meant for the real model.
Result<OwnedOptions> stub_options(Runtime& runtime, const OrtSessionOptions* options,
                                  OrtCustomOpDomain* domain) {
  const OrtApi& ort = runtime.ort;
  OrtSessionOptions* raw = nullptr;
  if (options == nullptr) {
    OB_ORT(runtime, ort.CreateSessionOptions(&raw));
  } else {
    OB_ORT(runtime, ort.CloneSessionOptions(options, &raw));
  }
  OwnedOptions made(raw, ort.ReleaseSessionOptions);
  OB_ORT(runtime, ort.AddCustomOpDomain(raw, domain));
  OB_ORT(runtime, ort.SetSessionGraphOptimizationLevel(raw, ORT_DISABLE_ALL));
  OB_ORT(runtime, ort.SetSessionExecutionMode(raw, ORT_SEQUENTIAL));
  // Affinities are given for each thread of the pool: then it keeps its size.
  if (!read_entry(runtime, raw, "session.intra_op_thread_affinities")) {
    OB_ORT(runtime, ort.SetIntraOpNumThreads(raw, 1));
  }
  OB_ORT(runtime, ort.SetInterOpNumThreads(raw, 1));
  OB_ORT(runtime, ort.AddSessionConfigEntry(raw, "session.load_model_format", "ONNX"));
  return made;
}

// The program's session is the library's own, and its Runs are counted.
OrtStatus* stay_here(const Prepared& prepared, const OpenOriginal& original, OrtSession** out) {
  OrtStatus* status = nullptr;
  if (prepared.session != nullptr) {
    *out = prepared.session->release();
  } else {
    status = original(out);
  }
  if (status == nullptr) remember_local_session(*out, prepared.account);
  return status;
}

// Lets RunOptionsSetTerminate() end a Run, until the end of the scope.
class CancelScope {
 public:
  explicit CancelScope(const OrtRunOptions* options)
      : registry_(options == nullptr ? nullptr : &Process::current().cancels()) {
    if (registry_ != nullptr) registry_->add(options, &token_);
  }
  ~CancelScope() {
    if (registry_ != nullptr) registry_->remove(&token_);
  }
  CancelScope(const CancelScope&) = delete;
  CancelScope& operator=(const CancelScope&) = delete;
  wire::CancelToken* token() { return registry_ == nullptr ? nullptr : &token_; }

 private:
  wire::CancelToken token_;
  CancelRegistry* const registry_;
};

// Runs `call` with a frame around it, and gives the kernel's own error back in place of the
// runtime's, which names the stub's node.
template <typename Call>
OrtStatus* framed(Runtime& runtime, OrtSession* session, const OrtRunOptions* options,
                  std::span<const char* const> outputs, const Call& call) {
  if (const auto account = account_of_local_session(session)) {
    const auto start = Clock::monotonic().now();
    OrtStatus* status = call();
    if (status == nullptr) {
      const auto time = static_cast<std::uint64_t>((Clock::monotonic().now() - start).count());
      account->local_run(time, LocalReason::kNotEligible, false);
    } else {
      account->failed_run();
    }
    return status;
  }
  CancelScope cancel(options);
  RunFrame frame;
  frame.output_names = outputs;
  frame.options = options;
  frame.cancel = cancel.token();
  OrtStatus* status = call();
  if (frame.error) {
    if (status != nullptr) runtime.ort.ReleaseStatus(status);
    return to_status(runtime, *frame.error);
  }
  return status;
}

OrtStatus* run_original(Runtime& runtime, const RunArguments& a) {
  return runtime.ort.Run(a.session, a.options, a.input_names, a.inputs, a.input_count,
                         a.output_names, a.output_count, a.outputs);
}

}  // namespace

Result<OrtSession*> open_stub(Runtime& runtime, const OrtEnv* env, const Prepared& prepared,
                              const OrtSessionOptions* options) {
  OB_TRY(OrtCustomOpDomain * domain, stub_domain(runtime, prepared.stub->signature));
  OB_TRY(const OwnedOptions stub, stub_options(runtime, options, domain));
  const StubRegistration registration(prepared.stub);
  OrtSession* session = nullptr;
  OB_ORT(runtime,
         runtime.ort.CreateSessionFromArray(env, prepared.stub_model.data(),
                                            prepared.stub_model.size(), stub.get(), &session));
  return session;
}

OrtStatus* create_session(Runtime& runtime, const OrtEnv* env, const ModelSource& source,
                          const OrtSessionOptions* options, const OpenOriginal& original,
                          OrtSession** out) {
  Prepared prepared = prepare_session(runtime, source, options, original);
  if (prepared.error != nullptr) return prepared.error;
  if (prepared.stub == nullptr) return stay_here(prepared, original, out);
  auto stub = open_stub(runtime, env, prepared, options);
  if (stub) {
    *out = *stub;
    if (read_options(runtime, options).intra_op_threads == 1) remember_single_threaded(*stub);
    if (const auto& session = prepared.stub->session; session->profile() != nullptr) {
      remember_profiled(*stub, session);
    }
    return nullptr;
  }
  prepared.account = prepared.stub->session->shared_account();
  prepared.account->set_why_local("stub could not be opened: " + stub.error().message);
  log_warn("model ({}) stays here: its stub could not be opened: {}",
           prepared.stub->session->spec().model_name, stub.error().message);
  return stay_here(prepared, original, out);
}

OrtStatus* run_session(Runtime& runtime, const RunArguments& arguments) {
  return framed(runtime, arguments.session, arguments.options,
                {arguments.output_names, arguments.output_count},
                [&] { return run_original(runtime, arguments); });
}

// The runtime refuses RunAsync to a session with a single thread, and keeps the Runs of a session
// that stays here to its own threads. A stub's Runs wait for a server instead of computing.
OrtStatus* run_session_async(Runtime& runtime, const RunArguments& arguments,
                             RunAsyncCallbackFn callback, void* user_data) {
  if (is_single_threaded(arguments.session) ||
      account_of_local_session(arguments.session) != nullptr) {
    const RunArguments& a = arguments;
    return runtime.ort.RunAsync(a.session, a.options, a.input_names, a.inputs, a.input_count,
                                a.output_names, a.output_count, a.outputs, callback, user_data);
  }
  const auto run = [&runtime, arguments, callback, user_data] {
    OrtStatus* status = run_session(runtime, arguments);
    callback(user_data, arguments.outputs, status == nullptr ? arguments.output_count : 0, status);
  };
  Process::current().async_pool().post(run, std::thread::hardware_concurrency());
  return nullptr;
}

OrtStatus* run_session_with_binding(Runtime& runtime, OrtSession* session,
                                    const OrtRunOptions* options, const OrtIoBinding* binding) {
  const OrtApi& ort = runtime.ort;
  const auto original = [&] { return ort.RunWithBinding(session, options, binding); };
  OrtAllocator* allocator = nullptr;
  char* buffer = nullptr;
  std::size_t* lengths = nullptr;
  std::size_t count = 0;
  OrtStatus* status = ort.GetAllocatorWithDefaultOptions(&allocator);
  if (status == nullptr) {
    status = ort.GetBoundOutputNames(binding, allocator, &buffer, &lengths, &count);
  }
  if (status != nullptr) {
    ort.ReleaseStatus(status);
    return framed(runtime, session, options, {}, original);
  }
  std::vector<std::string> names;
  std::vector<const char*> pointers;
  for (std::size_t i = 0, at = 0; i < count; at += lengths[i++]) {
    names.emplace_back(buffer + at, lengths[i]);
  }
  pointers.reserve(names.size());
  for (const std::string& name : names) pointers.push_back(name.c_str());
  if (buffer != nullptr) allocator->Free(allocator, buffer);
  if (lengths != nullptr) allocator->Free(allocator, lengths);
  return framed(runtime, session, options, pointers, original);
}

OrtStatus* end_profiling(Runtime& runtime, OrtSession* session, OrtAllocator* allocator,
                         char** out) {
  const OrtApi& ort = runtime.ort;
  std::uint64_t start_ns = 0;
  if (OrtStatus* status = ort.SessionGetProfilingStartTimeNs(session, &start_ns)) {
    ort.ReleaseStatus(status);
  }
  if (OrtStatus* status = ort.SessionEndProfiling(session, allocator, out)) return status;
  if (const auto profiled = take_profiled(session)) {
    if (auto added = append_to_profile(*out, *profiled->profile(), start_ns); !added) {
      log_warn("{}; it lacks what happened at the server", added.error().message);
    }
  }
  return nullptr;
}

void release_session(Runtime& runtime, OrtSession* session) {
  // The library ends a profile that nobody has ended; then the rest must get into it, too.
  if (const auto profiled = take_profiled(session)) {
    remember_profiled(session, profiled);
    OrtAllocator* allocator = nullptr;
    char* path = nullptr;
    OrtStatus* status = runtime.ort.GetAllocatorWithDefaultOptions(&allocator);
    if (status == nullptr) status = end_profiling(runtime, session, allocator, &path);
    if (status != nullptr) runtime.ort.ReleaseStatus(status);
    if (path != nullptr) allocator->Free(allocator, path);
  }
  forget_session(session);
  runtime.ort.ReleaseSession(session);
}

}  // namespace outboard::intercept::onnxruntime
