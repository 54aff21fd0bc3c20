// SPDX-License-Identifier: Apache-2.0
// How a program's request for a session is met: by a stub where the model can go out, by the
// library's own session where it cannot. Thread-safe.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "intercept/common/process.h"
#include "intercept/onnxruntime/model_session.h"
#include "intercept/onnxruntime/option_marks.h"
#include "intercept/onnxruntime/stub_session.h"

namespace outboard::intercept::onnxruntime {

// The model that a program names: a path, or bytes that it lends for the call.
struct ModelSource {
  std::string path;  // "" for bytes
  std::span<const std::byte> bytes;
  bool from_memory() const { return path.empty(); }
};

// The outcome of preparing a session. Exactly one of `stub` and `why_local` is set.
struct Prepared {
  std::shared_ptr<StubSession> stub;
  std::string stub_model;  // the stub's bytes
  std::string why_local;
  // The account of a session that stays here; a stub's is its own.
  std::shared_ptr<Account> account;
  // The library's own session when it was opened on the way and `why_local` is set.
  std::shared_ptr<ModelSession> session;
  // The library could not open the model, and nor could a server; owned by the caller.
  OrtStatus* error = nullptr;
};

// `open_original` opens the model exactly as the program asked; called at most once.
using OpenOriginal = std::function<OrtStatus*(OrtSession**)>;
Prepared prepare_session(Runtime& runtime, const ModelSource& source,
                         const OrtSessionOptions* options, const OpenOriginal& open_original);

// Sessions that stay here, by their handle, so that the hook of Run can account for them.
void remember_local_session(const OrtSession* session, std::shared_ptr<Account> account);
std::shared_ptr<Account> account_of_local_session(const OrtSession* session);
// Stub sessions whose program asked for one thread: the runtime refuses RunAsync to them.
void remember_single_threaded(const OrtSession* session);
bool is_single_threaded(const OrtSession* session);
// Stub sessions whose library writes a profile. `take`: forgets it.
void remember_profiled(const OrtSession* stub, std::shared_ptr<Session> session);
std::shared_ptr<Session> take_profiled(const OrtSession* stub);
void forget_session(const OrtSession* session);

}  // namespace outboard::intercept::onnxruntime
