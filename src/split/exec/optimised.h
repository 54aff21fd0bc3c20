// SPDX-License-Identifier: Apache-2.0
// Reads the model that an engine says it has made of a band. Where bands are computed in a sandbox
// it comes from there, so it may be anything: it is taken for no more than a band's can be, in
// memory, in time and in depth, and has what the code behind relies on. What it computes is not
// judged: it goes back to where it came from. Pure; thread-safe.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace outboard::split::exec {

// All but the values of weights. A message takes up to a hundred times what it has serialised; a
// band's hundred operators have 30 kB.
inline constexpr std::uint64_t kMostStructureBytes = 2u << 20;
inline constexpr int kMostNodes = 10'000;

// Every node of it has an input and an output. Errors: kInvalid.
Result<onnx::ModelProto> parse_optimised(std::string_view bytes);

}  // namespace outboard::split::exec
