// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/create_session.h"

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <shared_mutex>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "intercept/onnxruntime/describe.h"

namespace outboard::intercept::onnxruntime {
namespace {

std::string model_name(const ModelSource& source) {
  if (source.from_memory()) return fmt::format("from memory, {} bytes", source.bytes.size());
  return std::filesystem::path(source.path).filename().string();
}

Result<std::shared_ptr<const wire::ModelPackage>> package_of(const ModelSource& source,
                                                             const OptionsRead& options) {
  if (source.from_memory()) {
    return wire::ModelPackage::from_bytes(source.bytes, Process::current().config().spool,
                                          options.external_data_folder);
  }
  // Absolute, because the program may change its folder before the model is opened again.
  std::error_code code;
  const auto path = std::filesystem::absolute(source.path, code);
  return wire::ModelPackage::from_path(code ? source.path : path.string());
}

// Errors that another machine's library would report just the same.
bool is_the_models_own(OrtErrorCode code) {
  return code == ORT_NO_SUCHFILE || code == ORT_NO_MODEL || code == ORT_INVALID_PROTOBUF ||
         code == ORT_INVALID_GRAPH || code == ORT_INVALID_ARGUMENT;
}

// One preparation, step by step.
class Preparation {
 public:
  Preparation(Runtime& runtime, const ModelSource& source, const OrtSessionOptions* options,
              const OpenOriginal& open_original)
      : runtime_(runtime), source_(source), options_(options), open_original_(open_original) {}

  Prepared run() {
    Process& process = Process::current();
    const OptionsRead options = read_options(runtime_, options_);
    if (std::string why = process.why_all_local(); !why.empty()) return stay(std::move(why));
    if (!options.why_local.empty()) return stay(options.why_local);
    auto package = package_of(source_, options);
    if (!package) return stay(package.error().message);
    auto reopener = Reopener::make(runtime_, options_);
    if (!reopener) return stay(reopener.error().message);
    reopener_ = *reopener;
    is_profiled_ = options.profiling;
    session_ = make_session(*package, options.wire);
    auto prepared = connect(process.config().mode == Mode::kRemote ||
                            !(*package)->can_open_locally() || !reopener_->can_open());
    (*package)->forget_bytes();
    return prepared;
  }

 private:
  // The program's session is the library's own.
  Prepared stay(std::string why) {
    Prepared prepared;
    prepared.account = session_ == nullptr ? Process::current().new_account(model_name(source_))
                                           : session_->shared_account();
    prepared.account->set_why_local(why);
    const bool is_news = Process::current().why_all_local().empty();
    log(is_news ? LogLevel::kWarn : LogLevel::kInfo, "model ({}) stays here: {}",
        model_name(source_), why);
    prepared.why_local = std::move(why);
    // A session that was opened without the profile that the program wants is opened anew.
    if (!is_profiled_) prepared.session = std::move(local_);
    return prepared;
  }

  std::shared_ptr<Session> make_session(const std::shared_ptr<const wire::ModelPackage>& package,
                                        const wire::SessionOptions& options) {
    SessionSpec spec;
    spec.model_name = model_name(source_);
    spec.package = package;
    spec.options = options;
    spec.profiling = is_profiled_;
    spec.open_local = [reopener = reopener_, package,
                       from_memory =
                           source_.from_memory()]() -> Result<std::shared_ptr<LocalModel>> {
      OB_TRY(OrtSession * session, reopener->open(*package, from_memory));
      return std::make_shared<ModelSession>(reopener, session);
    };
    return std::make_shared<Session>(std::move(spec));
  }

  Prepared connect(bool wait_for_upload) {
    if (auto description = session_->attach_now(wait_for_upload)) {
      return stub_for(*std::move(description));
    }
    if (!reopener_->can_open()) {
      return stay("no server took it when it was opened, and this release cannot move it later");
    }
    OrtSession* session = nullptr;
    if (OrtStatus* status = open_here(&session)) return without_local(status);
    local_ = std::make_shared<ModelSession>(reopener_, session);
    auto description = describe(runtime_, session);
    if (!description) return stay(description.error().message);
    session_->set_local(local_);
    Prepared prepared = stub_for(*std::move(description));
    if (prepared.stub == nullptr) return prepared;
    if (const std::string why = session_->account().figures().why_local; !why.empty()) {
      log_warn("model ({}) stays here: {}", model_name(source_), why);
    } else {
      session_->attach_later();
    }
    return prepared;
  }

  // Until the stub is there; where a profile is wanted, without it: it is one file a session.
  OrtStatus* open_here(OrtSession** session) {
    if (!is_profiled_) return open_original_(session);
    auto opened = reopener_->open(*session_->spec().package, source_.from_memory());
    if (!opened) return to_status(runtime_, opened.error());
    *session = *opened;
    return nullptr;
  }

  // This machine cannot open the model: perhaps the server's can.
  Prepared without_local(OrtStatus* status) {
    if (!is_the_models_own(runtime_.ort.GetErrorCode(status))) {
      if (auto description = session_->attach_now(/*upload=*/true)) {
        log_info("model ({}) cannot be opened here: {}", model_name(source_),
                 runtime_.ort.GetErrorMessage(status));
        runtime_.ort.ReleaseStatus(status);
        return stub_for(*std::move(description));
      }
    }
    Prepared prepared;
    prepared.error = status;
    session_->account().discard();
    return prepared;
  }

  Prepared stub_for(wire::SessionDescription description) {
    auto signature = signature_of(description);
    if (!signature) return stay(signature.error().message);
    Prepared prepared;
    prepared.stub = std::make_shared<StubSession>(runtime_, session_, std::move(description),
                                                  *std::move(signature));
    prepared.stub_model =
        write_stub_model(prepared.stub->description, prepared.stub->signature, prepared.stub->id);
    prepared.session = std::move(local_);
    return prepared;
  }

  Runtime& runtime_;
  const ModelSource& source_;
  const OrtSessionOptions* const options_;
  const OpenOriginal& open_original_;
  bool is_profiled_ = false;
  std::shared_ptr<Reopener> reopener_;
  std::shared_ptr<Session> session_;
  std::shared_ptr<ModelSession> local_;
};

struct LocalSessions {
  struct Entry {
    std::string model, why;
    std::shared_ptr<Account> account;
    std::uint64_t generation;  // of the process that the account belongs to
  };
  std::shared_mutex mutex;
  std::map<const OrtSession*, Entry> entries;
  std::set<const OrtSession*> single_threaded;
  std::map<const OrtSession*, std::shared_ptr<Session>> profiled;
  std::atomic<std::size_t> count{0};
};

LocalSessions& local_sessions() {
  static auto* made = [] {
    static auto* fresh = new LocalSessions;
    // In the child the lock is made anew: glibc's knows its writer by the thread's number, which is
    // another one there, so an unlock would be taken for a reader's.
    pthread_atfork([] { fresh->mutex.lock(); }, [] { fresh->mutex.unlock(); },
                   [] { std::construct_at(&fresh->mutex); });
    return fresh;
  }();
  return *made;
}

}  // namespace

Prepared prepare_session(Runtime& runtime, const ModelSource& source,
                         const OrtSessionOptions* options, const OpenOriginal& open_original) {
  return Preparation(runtime, source, options, open_original).run();
}

void remember_local_session(const OrtSession* session, std::shared_ptr<Account> account) {
  LocalSessions& all = local_sessions();
  const AccountFigures figures = account->figures();
  const std::unique_lock lock(all.mutex);
  all.entries[session] = {figures.model, figures.why_local, std::move(account),
                          Process::current().generation()};
  all.count = all.entries.size();
}

std::shared_ptr<Account> account_of_local_session(const OrtSession* session) {
  LocalSessions& all = local_sessions();
  if (all.count.load(std::memory_order_relaxed) == 0) return nullptr;
  Process& process = Process::current();
  {
    const std::shared_lock lock(all.mutex);
    const auto found = all.entries.find(session);
    if (found == all.entries.end()) return nullptr;
    if (found->second.generation == process.generation()) return found->second.account;
  }
  // The first Run after fork(): the child keeps its own account.
  const std::unique_lock lock(all.mutex);
  const auto found = all.entries.find(session);
  if (found == all.entries.end()) return nullptr;
  LocalSessions::Entry& entry = found->second;
  if (entry.generation != process.generation()) {
    entry.account = process.new_account(entry.model);
    entry.account->set_why_local(entry.why);
    entry.generation = process.generation();
  }
  return entry.account;
}

void remember_single_threaded(const OrtSession* session) {
  LocalSessions& all = local_sessions();
  const std::unique_lock lock(all.mutex);
  all.single_threaded.insert(session);
}

bool is_single_threaded(const OrtSession* session) {
  LocalSessions& all = local_sessions();
  const std::shared_lock lock(all.mutex);
  return all.single_threaded.contains(session);
}

void remember_profiled(const OrtSession* stub, std::shared_ptr<Session> session) {
  LocalSessions& all = local_sessions();
  const std::unique_lock lock(all.mutex);
  all.profiled.emplace(stub, std::move(session));
}

std::shared_ptr<Session> take_profiled(const OrtSession* stub) {
  LocalSessions& all = local_sessions();
  const std::unique_lock lock(all.mutex);
  const auto found = all.profiled.find(stub);
  if (found == all.profiled.end()) return nullptr;
  auto session = std::move(found->second);
  all.profiled.erase(found);
  return session;
}

void forget_session(const OrtSession* session) {
  LocalSessions& all = local_sessions();
  const std::unique_lock lock(all.mutex);
  all.single_threaded.erase(session);
  all.profiled.erase(session);
  all.entries.erase(session);
  all.count = all.entries.size();
}

}  // namespace outboard::intercept::onnxruntime
