// SPDX-License-Identifier: Apache-2.0
// Random networks for tests: images through convolutions, pools, transposed convolutions, resizes,
// normalisations, branches and heads, or token sequences through attention. Deterministic in the
// seed.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "split/graph/constants.h"
#include "tests/split/runner.h"

namespace outboard::split::testing {

using Shape = std::vector<std::int64_t>;

// Writes ONNX models by hand; also used for the small graphs of single tests.
class ModelWriter {
 public:
  explicit ModelWriter(std::uint64_t seed = 1, int opset = 17);

  int pick(int lo, int hi);  // both included
  bool chance(int percent) { return pick(1, 100) <= percent; }
  std::string input(const std::string& name, const Shape& shape,
                    int type = onnx::TensorProto::FLOAT);
  // Random weights of this shape, small enough to keep activations near 1.
  std::string weights(const Shape& shape, double scale = 0);
  std::string ints(const std::vector<std::int64_t>& values);
  std::string floats(const std::vector<double>& values, const Shape& dims);
  // Adds a node and returns its (first) output's name.
  std::string node(const std::string& type, const std::vector<std::string>& inputs,
                   int outputs = 1);
  onnx::NodeProto& last() { return *model_.mutable_graph()->mutable_node()->rbegin(); }
  void output(const std::string& name, int type = onnx::TensorProto::FLOAT);
  std::string bytes() const { return model_.SerializeAsString(); }
  onnx::ModelProto& model() { return model_; }
  // Random values for every input of the model.
  Values random_inputs();

 private:
  onnx::ModelProto model_;
  std::mt19937_64 random_;
  int counter_ = 0;
};

struct RandomModel {
  std::string bytes;
  Values inputs;
  std::string description;
};

// `block`: the channels that convolutions make are multiples of it.
RandomModel random_image_model(std::uint64_t seed, int block = 1);
RandomModel random_token_model(std::uint64_t seed);

}  // namespace outboard::split::testing
