// SPDX-License-Identifier: Apache-2.0
// A session's signature and metadata, as the program's own library reports them. Thread-safe.
#pragma once

#include "base/result.h"
#include "intercept/onnxruntime/runtime.h"
#include "wire/messages.h"

namespace outboard::intercept::onnxruntime {

// kRefused with the reason when such a session cannot be answered by a server (a value that is no
// tensor, initializers that may be overridden); kEngine for the library's own errors.
Result<wire::SessionDescription> describe(const Runtime& runtime, const OrtSession* session);

}  // namespace outboard::intercept::onnxruntime
