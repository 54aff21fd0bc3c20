// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/run_frame.h"

#include <utility>

namespace outboard::intercept::onnxruntime {
namespace {

thread_local RunFrame* innermost_frame = nullptr;
thread_local std::optional<Error> last_error;

}  // namespace

RunFrame::RunFrame() : outer_(innermost_frame) { innermost_frame = this; }
RunFrame::~RunFrame() { innermost_frame = outer_; }
RunFrame* RunFrame::innermost() { return innermost_frame; }

void set_last_error(const Error& error) { last_error = error; }
std::optional<Error> take_last_error() { return std::exchange(last_error, std::nullopt); }

}  // namespace outboard::intercept::onnxruntime
