// SPDX-License-Identifier: Apache-2.0
// Takes the optimised model out of a session that a worker has opened to show one
// (handed_models.h). What a worker says is not believed: of another form, or larger than a model of
// that size is made, it is an error before any memory is taken for it. The bytes themselves are
// whatever the worker likes; who reads them must expect that.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "engine/engine.h"

namespace outboard::serve {

// `given_bytes`: of the model as it was given. Errors: kInvalid for an answer that is none; those
// of run().
Result<std::string> take_shown_model(engine::Session& session, std::uint64_t given_bytes);

// How much an optimised model may have: weights are padded to whole blocks of channels, and folded
// constants may be larger than what made them. At most 2 GiB, as every protobuf message.
std::uint64_t most_shown_bytes(std::uint64_t given_bytes);

}  // namespace outboard::serve
