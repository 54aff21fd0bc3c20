// SPDX-License-Identifier: Apache-2.0
// A stub session: the stub model opened in the program's library, with the operator that answers
// its Runs from the server or from here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "intercept/common/session.h"
#include "intercept/onnxruntime/runtime.h"
#include "intercept/onnxruntime/stub_model.h"
#include "wire/messages.h"

namespace outboard::intercept::onnxruntime {

// What the stub's kernel needs; shared by the kernel and whoever creates it.
struct StubSession {
  StubSession(Runtime& r, std::shared_ptr<Session> s, wire::SessionDescription d, StubSignature g);
  Runtime& runtime;
  const std::shared_ptr<Session> session;
  const wire::SessionDescription description;
  const StubSignature signature;
  const std::int64_t id;  // what the stub model's attribute says
  std::vector<const char*> input_names, output_names;
  std::vector<std::uint32_t> all_outputs;  // model positions of the node's outputs
};

// From here until the object goes, a kernel with its id can be made.
class StubRegistration {
 public:
  explicit StubRegistration(const std::shared_ptr<StubSession>& stub);
  ~StubRegistration();
  StubRegistration(const StubRegistration&) = delete;
  StubRegistration& operator=(const StubRegistration&) = delete;

 private:
  const std::int64_t id_;
};

// The domain with the operator for a signature, made at its first use; lives as long as the
// process.
Result<OrtCustomOpDomain*> stub_domain(Runtime& runtime, const StubSignature& signature);

// Answers one Run: see stub_run.cc.
Result<void> answer_run(const StubSession& stub, OrtKernelContext* context);

}  // namespace outboard::intercept::onnxruntime
