// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/model_session.h"

#include <cstddef>

#include "intercept/common/run.h"
#include "intercept/onnxruntime/values.h"

namespace outboard::intercept::onnxruntime {

Result<std::shared_ptr<Reopener>> Reopener::make(Runtime& runtime,
                                                 const OrtSessionOptions* options) {
  std::shared_ptr<Reopener> made(new Reopener(runtime));
  const OrtApi& ort = runtime.ort;
  // The environment exists already: this takes a reference and ignores the arguments. The one of
  // Python's wheels up to 1.19 is not known to the C API and allows no second.
  if (OrtStatus* status = ort.CreateEnv(ORT_LOGGING_LEVEL_WARNING, "outboard", &made->env_)) {
    ort.ReleaseStatus(status);
    made->env_ = nullptr;
  }
  if (options == nullptr) {
    OB_ORT(runtime, ort.CreateSessionOptions(&made->options_));
  } else {
    OB_ORT(runtime, ort.CloneSessionOptions(options, &made->options_));
    // The profile is the program's session's; this one's would have the same name.
    OB_ORT(runtime, ort.DisableProfiling(made->options_));
  }
  return made;
}

Reopener::~Reopener() {
  if (options_ != nullptr) runtime_.ort.ReleaseSessionOptions(options_);
  if (env_ != nullptr) runtime_.ort.ReleaseEnv(env_);
}

Result<OrtSession*> Reopener::open(const wire::ModelPackage& package, bool from_memory) const {
  OrtSession* session = nullptr;
  if (!can_open()) return session;
  OB_TRY(const std::string path, package.path_for_local_open());
  if (!from_memory) {
    OB_ORT(runtime_, runtime_.ort.CreateSession(env_, path.c_str(), options_, &session));
    return session;
  }
  std::vector<std::byte> bytes(package.manifest().files.front().size_bytes);
  OB_TRY(const std::size_t read, package.read_at(0, 0, bytes));
  OB_ORT(runtime_,
         runtime_.ort.CreateSessionFromArray(env_, bytes.data(), read, options_, &session));
  return session;
}

namespace {

using GetName = OrtStatus*(ORT_API_CALL*)(const OrtSession*, std::size_t, OrtAllocator*,
                                          char**)NO_EXCEPTION;

Result<std::vector<std::string>> names_of(const Runtime& runtime, const OrtSession* session,
                                          std::size_t count, GetName get_name) {
  OrtAllocator* allocator = nullptr;
  OB_ORT(runtime, runtime.ort.GetAllocatorWithDefaultOptions(&allocator));
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    OB_ORT(runtime, get_name(session, i, allocator, &name));
    names.emplace_back(name);
    OB_ORT(runtime, runtime.ort.AllocatorFree(allocator, name));
  }
  return names;
}

std::vector<const char*> pointers_to(const std::vector<std::string>& names) {
  std::vector<const char*> pointers;
  pointers.reserve(names.size());
  for (const std::string& name : names) pointers.push_back(name.c_str());
  return pointers;
}

}  // namespace

// With run options of its own: the program's may be gone before it ends.
Result<void> ModelSession::run(std::span<const std::uint32_t> wanted,
                               std::span<const wire::InputTensor> inputs, wire::OutputSink& outputs,
                               wire::CancelToken* cancel) {
  if (session_ == nullptr)
    return tl::make_unexpected(Error{ErrorKind::kUnimplemented,
                                     "the program's side answers this Run", kAnsweredByTheProgram});
  const Runtime& runtime = reopener_->runtime();
  const OrtApi& ort = runtime.ort;
  std::size_t output_count = 0;
  OB_ORT(runtime, ort.SessionGetOutputCount(session_, &output_count));
  OB_TRY(const auto input_names,
         names_of(runtime, session_, inputs.size(), ort.SessionGetInputName));
  OB_TRY(const auto all_names, names_of(runtime, session_, output_count, ort.SessionGetOutputName));
  std::vector<const char*> output_names;
  for (const std::uint32_t i : wanted) output_names.push_back(all_names.at(i).c_str());
  std::vector<Owned<OrtValue>> owned;
  std::vector<const OrtValue*> values;
  for (const wire::InputTensor& input : inputs) {
    OB_TRY(auto value, value_of(runtime, input));
    values.push_back(value.get());
    owned.push_back(std::move(value));
  }
  OrtRunOptions* options = nullptr;
  OB_ORT(runtime, ort.CreateRunOptions(&options));
  const Owned<OrtRunOptions> options_end(options, ort.ReleaseRunOptions);
  const wire::CancelWatch watch(cancel, [&ort, options](bool) {
    if (OrtStatus* failed = ort.RunOptionsSetTerminate(options)) ort.ReleaseStatus(failed);
  });
  std::vector<OrtValue*> results(wanted.size(), nullptr);
  OrtStatus* status =
      ort.Run(session_, options, pointers_to(input_names).data(), values.data(), values.size(),
              output_names.data(), output_names.size(), results.data());
  for (OrtValue* result : results) owned.emplace_back(result, ort.ReleaseValue);
  OB_ORT(runtime, status);
  for (std::size_t i = 0; i < results.size(); ++i) {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    OB_ORT(runtime, ort.GetTensorTypeAndShape(results[i], &info));
    const Owned<OrtTensorTypeAndShapeInfo> info_end(info, ort.ReleaseTensorTypeAndShapeInfo);
    ONNXTensorElementDataType type{};
    OB_ORT(runtime, ort.GetTensorElementType(info, &type));
    OB_CHECK_OK(
        give_output(runtime, *results[i], static_cast<wire::ElementType>(type), i, outputs));
  }
  return {};
}

}  // namespace outboard::intercept::onnxruntime
