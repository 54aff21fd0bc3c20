// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/model_session.h"

#include <cstddef>

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

}  // namespace outboard::intercept::onnxruntime
