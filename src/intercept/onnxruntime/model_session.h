// SPDX-License-Identifier: Apache-2.0
// The program's model in the program's own library: how it is opened again, and Runs of it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "intercept/common/session.h"
#include "intercept/onnxruntime/runtime.h"
#include "wire/model_package.h"

namespace outboard::intercept::onnxruntime {

// Keeps what opens a model again: a clone of the program's options and a reference to the library's
// environment. Thread-safe once made. Lifetime: until the last session that it opened is closed.
class Reopener : public std::enable_shared_from_this<Reopener> {
 public:
  static Result<std::shared_ptr<Reopener>> make(Runtime& runtime, const OrtSessionOptions* options);
  ~Reopener();
  Reopener(const Reopener&) = delete;
  Reopener& operator=(const Reopener&) = delete;

  Runtime& runtime() const { return runtime_; }
  // To be changed only before the first open().
  OrtSessionOptions* options() const { return options_; }
  const OrtEnv* env() const { return env_; }
  // False: only the program's side can open it (Python's wheels up to 1.19, whose environment is
  // out of reach); open() gives nullptr then.
  bool can_open() const { return env_ != nullptr; }
  // `from_memory`: open it as bytes, as the program did.
  Result<OrtSession*> open(const wire::ModelPackage& package, bool from_memory) const;

 private:
  explicit Reopener(Runtime& runtime) : runtime_(runtime) {}
  Runtime& runtime_;
  OrtEnv* env_ = nullptr;
  OrtSessionOptions* options_ = nullptr;
};

// An open session of the original model. Owns it. Runs may be concurrent. nullptr: the program's
// side runs it (kAnsweredByTheProgram).
class ModelSession final : public LocalModel {
 public:
  ModelSession(std::shared_ptr<const Reopener> reopener, OrtSession* session)
      : reopener_(std::move(reopener)), session_(session) {}
  ~ModelSession() override {
    if (session_ != nullptr) reopener_->runtime().ort.ReleaseSession(session_);
  }
  OrtSession* get() const { return session_; }
  Result<void> run(std::span<const std::uint32_t> wanted, std::span<const wire::InputTensor> inputs,
                   wire::OutputSink& outputs, wire::CancelToken* cancel) override;
  // Gives the session up without closing it.
  OrtSession* release() { return std::exchange(session_, nullptr); }

 private:
  const std::shared_ptr<const Reopener> reopener_;
  OrtSession* session_;
};

}  // namespace outboard::intercept::onnxruntime
