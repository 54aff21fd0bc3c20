// SPDX-License-Identifier: Apache-2.0
// Inputs for a model that nobody described but itself: tensors of the described shapes with random
// content, the same for the same seed. Pure; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"

namespace outboard::cli {

// What a person asked an input's shape to be, by the input's name.
using ShapeChoices = std::map<std::string, std::vector<std::int64_t>>;

// "NAME=1,3,224,224" (a scalar is "NAME="). kInvalid with what was given and what was expected.
Result<std::pair<std::string, std::vector<std::int64_t>>> parse_shape(std::string_view text);

struct InputTensor {
  engine::ElementType type = engine::ElementType::kUndefined;
  std::vector<std::int64_t> dims;
  std::vector<std::byte> data;       // empty for kString
  std::vector<std::string> strings;  // kString
};

// One tensor for each input. A dimension that is symbolic or unknown takes 1 unless `choices` has
// the input. Floats lie in [0, 1); integers and booleans are 0 or 1, which are valid token
// numbers and masks; strings are single letters.
// kInvalid: a choice for an input that is not there or against its shape, an input without any
// shape and without a choice, or one beyond limits::kTensorBytes; kUnimplemented: an input that is
// no tensor or of a type that is not known.
Result<std::vector<InputTensor>> make_inputs(std::span<const engine::ValueInfo> inputs,
                                             const ShapeChoices& choices, std::uint64_t seed);

}  // namespace outboard::cli
