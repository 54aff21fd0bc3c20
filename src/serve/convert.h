// SPDX-License-Identifier: Apache-2.0
// Between the wire's types and the engine's: the one place where the two meet. Pure; thread-safe.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "engine/engine.h"
#include "wire/messages.h"

namespace outboard::serve {

// What of a client's options a server takes. Options that concern threads, memory or files of the
// program's own machine are passed over. kUnimplemented: a config entry that may change what the
// model computes, or reach files of this machine, and is not known to be harmless; the client then
// runs the session itself.
Result<engine::OpenOptions> to_engine(const wire::SessionOptions& options);

// Two sessions of one model with equal keys compute the same, and may be one.
std::string options_key(const engine::OpenOptions& options);

// kUnimplemented when a value is no tensor, or an initializer may be overridden: such a session
// cannot go over the wire.
Result<wire::SessionDescription> to_wire(const engine::ModelInfo& info);

// Whether an input may be given to this value: element type, rank and fixed dimensions. kInvalid
// with what was given and what was expected.
Result<void> check_input(const engine::ValueInfo& expected, const wire::TensorHeader& given);

// The other way round, for a server that is itself the client of a worker.
wire::SessionOptions to_wire(const engine::OpenOptions& options);
engine::ModelInfo to_engine(const wire::SessionDescription& description);

// Borrows both.
engine::InputView to_engine(const wire::TensorHeader& header, std::span<const std::byte> data,
                            std::span<const std::string_view> strings);
wire::TensorHeader to_wire(const engine::OutputView& output, std::uint64_t data_bytes);

}  // namespace outboard::serve
