// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/stub_session.h"

#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include "intercept/onnxruntime/run_frame.h"

namespace outboard::intercept::onnxruntime {
namespace {

// Sessions whose kernel may be made now, and operators by runtime and domain. fork() may come while
// another thread is in here, so its handlers take the lock (process-wide, short).
struct Registry {
  std::mutex mutex;
  std::map<std::int64_t, std::weak_ptr<StubSession>> stubs;
  std::map<std::pair<int, std::string>, OrtCustomOpDomain*> domains;
};

Registry& registry() {
  static auto* made = [] {
    auto* fresh = new Registry;
    static Registry* shared = fresh;
    pthread_atfork([] { shared->mutex.lock(); }, [] { shared->mutex.unlock(); },
                   [] { shared->mutex.unlock(); });
    return fresh;
  }();
  return *made;
}

// The operator of one signature, as the library sees it: OrtCustomOp first, so that the callbacks
// find the rest behind the pointer that they are given.
struct StubOperator : OrtCustomOp {
  explicit StubOperator(Runtime& r, StubSignature s);
  Runtime& runtime;
  const StubSignature signature;

  static const StubOperator& of(const OrtCustomOp* op) {
    return *static_cast<const StubOperator*>(op);
  }
};

struct Kernel {
  std::shared_ptr<StubSession> stub;
};

OrtStatus* create_kernel(const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info,
                         void** kernel) {
  const Runtime& runtime = StubOperator::of(op).runtime;
  std::int64_t id = 0;
  if (OrtStatus* status = runtime.ort.KernelInfoGetAttribute_int64(info, kStubAttribute, &id)) {
    return status;
  }
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.stubs.find(id);
  auto stub = found == all.stubs.end() ? nullptr : found->second.lock();
  if (stub == nullptr) {
    return runtime.ort.CreateStatus(
        ORT_FAIL, "a stub model of Outboard cannot be opened outside the process that made it");
  }
  *kernel = new Kernel{std::move(stub)};
  return nullptr;
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const StubSession& stub = *static_cast<Kernel*>(kernel)->stub;
  const auto answered = answer_run(stub, context);
  if (answered) return nullptr;
  if (RunFrame* frame = RunFrame::innermost()) {
    frame->error = answered.error();
  } else {
    set_last_error(answered.error());
  }
  return to_status(stub.runtime, answered.error());
}

StubOperator::StubOperator(Runtime& r, StubSignature s)
    : OrtCustomOp{}, runtime(r), signature(std::move(s)) {
  version = kMinimumApi;
  GetName = [](const OrtCustomOp*) { return kStubOperator; };
  GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  GetInputTypeCount = [](const OrtCustomOp* op) { return of(op).signature.inputs.size(); };
  GetInputType = [](const OrtCustomOp* op, std::size_t i) {
    return static_cast<ONNXTensorElementDataType>(of(op).signature.inputs[i]);
  };
  GetOutputTypeCount = [](const OrtCustomOp* op) { return of(op).signature.outputs.size(); };
  GetOutputType = [](const OrtCustomOp* op, std::size_t i) {
    return static_cast<ONNXTensorElementDataType>(of(op).signature.outputs[i]);
  };
  GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
  GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
  GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
  CreateKernelV2 = &create_kernel;
  KernelComputeV2 = &compute;
  KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
}

std::int64_t next_stub_id() {
  static std::atomic<std::int64_t> next{1};
  return next.fetch_add(1);
}

}  // namespace

StubSession::StubSession(Runtime& r, std::shared_ptr<Session> s, wire::SessionDescription d,
                         StubSignature g)
    : runtime(r),
      session(std::move(s)),
      description(std::move(d)),
      signature(std::move(g)),
      id(next_stub_id()),
      all_outputs(signature.model_output) {
  for (const auto& input : description.inputs) input_names.push_back(input.name.c_str());
  for (const auto& output : description.outputs) output_names.push_back(output.name.c_str());
}

StubRegistration::StubRegistration(const std::shared_ptr<StubSession>& stub) : id_(stub->id) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.stubs[id_] = stub;
}

StubRegistration::~StubRegistration() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.stubs.erase(id_);
}

Result<OrtCustomOpDomain*> stub_domain(Runtime& runtime, const StubSignature& signature) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const std::string name = signature.domain();
  OrtCustomOpDomain*& domain = all.domains[{runtime.index, name}];
  if (domain != nullptr) return domain;
  OrtCustomOpDomain* fresh = nullptr;
  OB_ORT(runtime, runtime.ort.CreateCustomOpDomain(name.c_str(), &fresh));
  OB_ORT(runtime, runtime.ort.CustomOpDomain_Add(fresh, new StubOperator(runtime, signature)));
  domain = fresh;
  return domain;
}

}  // namespace outboard::intercept::onnxruntime
