// SPDX-License-Identifier: Apache-2.0
// The stub model: an ONNX file with a given signature and metadata whose single node is a custom
// operator. Pure; thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/messages.h"

namespace outboard::intercept::onnxruntime {

// The operator that answers for a model: its types, in the order of the node's inputs and outputs.
// An output that has an input's name is no output of the node: the runtime serves it.
struct StubSignature {
  std::vector<wire::ElementType> inputs, outputs;
  // For each output of the node its position among the model's outputs, and the reverse (-1: none).
  std::vector<std::uint32_t> model_output;
  std::vector<int> node_output;
  // Operator and domain are named after the types: one operator per signature.
  std::string domain() const;
};

// kRefused with the reason when no stub can stand for such a model.
Result<StubSignature> signature_of(const wire::SessionDescription& description);

inline constexpr const char* kStubOperator = "Run";
inline constexpr const char* kStubAttribute = "session";  // INT: which session the node answers for

std::string write_stub_model(const wire::SessionDescription& description,
                             const StubSignature& signature, std::int64_t session);

}  // namespace outboard::intercept::onnxruntime
