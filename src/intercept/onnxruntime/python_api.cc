// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/python_api.h"

#include <dlfcn.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "intercept/common/profile_file.h"
#include "intercept/onnxruntime/create_session.h"
#include "intercept/onnxruntime/providers.h"
#include "intercept/onnxruntime/run_frame.h"

using outboard::intercept::LocalReason;
using outboard::intercept::Process;
namespace ort = outboard::intercept::onnxruntime;

// The program's side of a session that is being opened, and of one that stays here.
struct OutboardPlan {
  ort::Runtime* runtime = nullptr;
  std::shared_ptr<ort::Reopener> program;  // the program's options and the environment
  ort::Prepared prepared;
  std::optional<ort::StubRegistration> registration;
};

namespace {

thread_local OutboardPlan* capturing = nullptr;  // gets the options at the next registration
thread_local OutboardPlan* attaching = nullptr;  // gives its operator at the next registration

struct PythonRun {
  std::vector<std::uint32_t> outputs;
  outboard::wire::CancelToken token;
  bool registered = false;
  ort::RunFrame frame;
};

OrtStatus* capture(OutboardPlan& plan, ort::Runtime& runtime, const OrtSessionOptions* options) {
  plan.runtime = &runtime;
  auto program = ort::Reopener::make(runtime, options);
  if (!program) return ort::to_status(runtime, program.error());
  plan.program = std::move(*program);
  return nullptr;
}

OrtStatus* attach(const OutboardPlan& plan, ort::Runtime& runtime, OrtSessionOptions* options) {
  auto domain = ort::stub_domain(runtime, plan.prepared.stub->signature);
  if (!domain) return ort::to_status(runtime, domain.error());
  return runtime.ort.AddCustomOpDomain(options, *domain);
}

}  // namespace

OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  OutboardPlan* to_capture = std::exchange(capturing, nullptr);
  OutboardPlan* to_attach = std::exchange(attaching, nullptr);
  ort::Runtime* runtime = ort::runtime_of(base);
  if (to_capture == nullptr && to_attach == nullptr) {
    // Preloaded, this stands before a function of the same name that the program has the library
    // look up among all (RegisterCustomOpsUsingFunction).
    const auto next =
        reinterpret_cast<decltype(&RegisterCustomOps)>(::dlsym(RTLD_NEXT, "RegisterCustomOps"));
    return next == nullptr ? nullptr : next(options, base);
  }
  if (runtime == nullptr) return nullptr;
  if (to_capture != nullptr) return capture(*to_capture, *runtime, options);
  if (to_attach != nullptr) return attach(*to_attach, *runtime, options);
  return nullptr;
}

OutboardPlan* outboard_plan_new(void) noexcept {
  capturing = std::make_unique<OutboardPlan>().release();
  return capturing;
}

int outboard_plan_prepare(OutboardPlan* plan, const char* path, const void* model,
                          std::size_t size) noexcept {
  capturing = nullptr;
  if (plan->program == nullptr) {
    plan->prepared.why_local = "this release of ONNX Runtime is not supported";
    plan->prepared.account = Process::current().new_account(path == nullptr ? "from memory" : path);
    plan->prepared.account->set_why_local(plan->prepared.why_local);
    return 0;
  }
  const ort::Reopener& program = *plan->program;
  const OrtApi& api = plan->runtime->ort;
  const ort::ModelSource source{path == nullptr ? "" : path,
                                {static_cast<const std::byte*>(model), size}};
  plan->prepared =
      ort::prepare_session(*plan->runtime, source, program.options(), [&](OrtSession** session) {
        return source.from_memory()
                   ? api.CreateSessionFromArray(program.env(), model, size, program.options(),
                                                session)
                   : api.CreateSession(program.env(), path, program.options(), session);
      });
  // The extension opens its own session, and reports its own error.
  plan->prepared.session.reset();
  if (OrtStatus* status = std::exchange(plan->prepared.error, nullptr)) {
    plan->prepared.why_local = ort::to_error(*plan->runtime, status).message;
  }
  if (plan->prepared.stub == nullptr) return 0;
  plan->registration.emplace(plan->prepared.stub);
  return 1;
}

void outboard_plan_provider(OutboardPlan* plan, const char* name, const char* const* keys,
                            const char* const* values, std::size_t count) noexcept {
  if (plan->program == nullptr) return;
  ort::mark_provider(*plan->runtime, plan->program->options(), name,
                     ort::settings_of(std::span(keys, count), std::span(values, count)));
}

void outboard_plan_config(OutboardPlan* plan, const char* key, const char* value) noexcept {
  if (plan->program == nullptr) return;
  if (OrtStatus* status =
          plan->runtime->ort.AddSessionConfigEntry(plan->program->options(), key, value)) {
    plan->runtime->ort.ReleaseStatus(status);
    return;
  }
  ort::mark(*plan->runtime, plan->program->options(), ort::marks::kConfigKeys, key);
}

const char* outboard_plan_why_local(OutboardPlan* plan) noexcept {
  return plan->prepared.why_local.c_str();
}

const void* outboard_plan_stub(OutboardPlan* plan, std::size_t* size) noexcept {
  *size = plan->prepared.stub_model.size();
  return plan->prepared.stub_model.data();
}

void outboard_plan_attach(OutboardPlan* plan) noexcept { attaching = plan; }

void outboard_plan_give_up(OutboardPlan* plan, const char* reason) noexcept {
  attaching = nullptr;
  plan->prepared.why_local = reason;
  plan->prepared.account = plan->prepared.stub->session->shared_account();
  plan->prepared.account->set_why_local(reason);
  plan->registration.reset();
  plan->prepared.stub.reset();
}

int outboard_plan_program_opens(OutboardPlan* plan) noexcept {
  return plan->program != nullptr && !plan->program->can_open() ? 1 : 0;
}

void outboard_plan_local_run(OutboardPlan* plan, std::int64_t time_ns) noexcept {
  const auto& stub = plan->prepared.stub;
  const auto account = stub == nullptr ? plan->prepared.account : stub->session->shared_account();
  if (account == nullptr) return;
  if (time_ns < 0) {
    account->failed_run();
  } else {
    account->local_run(static_cast<std::uint64_t>(time_ns),
                       stub == nullptr ? LocalReason::kNotEligible : LocalReason::kServerGone,
                       false);
  }
}

void* outboard_plan_profile(OutboardPlan* plan) noexcept {
  const auto& stub = plan->prepared.stub;
  if (stub == nullptr || stub->session->profile() == nullptr) return nullptr;
  return std::make_unique<std::shared_ptr<outboard::intercept::Session>>(stub->session).release();
}

void outboard_profile_end(void* profile, const char* path, std::uint64_t start_ns) noexcept {
  const std::unique_ptr<std::shared_ptr<outboard::intercept::Session>> session(
      static_cast<std::shared_ptr<outboard::intercept::Session>*>(profile));
  const auto added = outboard::intercept::append_to_profile(path, *(*session)->profile(), start_ns);
  if (!added) {
    outboard::log_warn("{}; it lacks what happened at the server", added.error().message);
  }
}

void outboard_plan_free(OutboardPlan* plan) noexcept { delete plan; }

void* outboard_run_begin(const std::uint32_t* outputs, std::size_t count,
                         const void* key) noexcept {
  auto run = std::make_unique<PythonRun>();
  if (outputs != nullptr) {
    run->outputs.assign(outputs, outputs + count);
    run->frame.output_indices = run->outputs;
  }
  if (key != nullptr) {
    run->frame.cancel = &run->token;
    run->registered = true;
    Process::current().cancels().add(key, &run->token);
  }
  return run.release();
}

void outboard_run_end(void* run) noexcept {
  const std::unique_ptr<PythonRun> ended(static_cast<PythonRun*>(run));
  if (ended->registered) Process::current().cancels().remove(&ended->token);
  if (const auto& error = ended->frame.error; error) ort::set_last_error(*error);
}

void outboard_cancel(const void* key) noexcept { Process::current().cancels().cancel(key); }

std::int64_t outboard_take_error(std::int32_t* code, char* message, std::size_t capacity) noexcept {
  const auto error = ort::take_last_error();
  if (!error) return -1;
  *code = error->native_code == 0 ? ORT_FAIL : error->native_code;
  const std::size_t size = std::min(capacity, error->message.size());
  std::copy_n(error->message.data(), size, message);
  return static_cast<std::int64_t>(size);
}

std::size_t outboard_server_providers(char* text, std::size_t capacity) noexcept {
  std::string all;
  for (const std::string& name : Process::current().server_providers()) all += name + "\n";
  std::copy_n(all.data(), std::min(capacity, all.size()), text);
  return all.size();
}

void outboard_report(void) noexcept { Process::current().report(); }
