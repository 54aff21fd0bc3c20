// SPDX-License-Identifier: Apache-2.0
// The library's values as the wire's tensors, and back. Thread-safe: no state. Errors: the
// library's own.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "intercept/onnxruntime/runtime.h"
#include "wire/client.h"

namespace outboard::intercept::onnxruntime {

Result<std::vector<std::int64_t>> dims_of(const Runtime& runtime, const OrtValue* value);

// The strings of a tensor, as views into `storage`.
Result<std::vector<std::string_view>> strings_of(const Runtime& runtime, const OrtValue* value,
                                                 std::size_t count, std::string& storage);

// Copies an output of a session to where output `index` of a Run goes.
Result<void> give_output(const Runtime& runtime, OrtValue& value, wire::ElementType type,
                         std::size_t index, wire::OutputSink& sink);

// What the library made and frees.
template <typename Type>
using Owned = std::unique_ptr<Type, void(ORT_API_CALL*)(Type*)>;

// A tensor over the input's bytes, which it borrows; strings are copied.
Result<Owned<OrtValue>> value_of(const Runtime& runtime, const wire::InputTensor& input);

}  // namespace outboard::intercept::onnxruntime
