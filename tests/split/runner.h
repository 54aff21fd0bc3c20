// SPDX-License-Identifier: Apache-2.0
// Runs ONNX models from memory in the ONNX Runtime of build/deps, for tests: one thread, no graph
// optimisation unless asked for. Loaded once a process.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace outboard::split::testing {

// A float tensor, or an int64 one when `ints` is not empty.
struct Value {
  std::vector<std::int64_t> shape;
  std::vector<float> floats;
  std::vector<std::int64_t> ints;
};
using Values = std::map<std::string, Value>;

// False where build/deps has no ONNX Runtime (the tests then say so loudly).
bool runtime_available();
// Throws std::runtime_error with ONNX Runtime's message.
Values run_model(const std::string& bytes, const Values& inputs, bool optimise = false);
// The shapes of a model's outputs as the runtime infers them (-1 where it cannot).
std::map<std::string, std::vector<std::int64_t>> infer_output_shapes(const std::string& bytes);

}  // namespace outboard::split::testing
