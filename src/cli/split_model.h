// SPDX-License-Identifier: Apache-2.0
// Opens a model for `outboard split`: shapes of its inputs from the command line, intermediate ones
// from ONNX Runtime where it is found, else inferred by the row rules (which tests hold against
// it).
#pragma once

#include <string>
#include <vector>

#include "split/graph/graph.h"

namespace outboard::cli {

struct ModelArguments {
  std::string path;
  std::vector<std::string> shapes;  // NAME=1,3,224,224
  bool no_engine = false;
};

Result<split::Graph> open_graph(const ModelArguments& arguments);

}  // namespace outboard::cli
