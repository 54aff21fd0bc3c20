// SPDX-License-Identifier: Apache-2.0
// What an engine may have beside Engine: it shows the model that it really computes.
//
//   if (auto* optimiser = dynamic_cast<ModelOptimiser*>(&engine)) ...
//
// Thread-safe.
#pragma once

#include <span>
#include <string>

#include "engine/engine.h"

namespace outboard::engine {

class ModelOptimiser {
 public:
  virtual ~ModelOptimiser() = default;
  // The model as this engine computes it with these options, its operators fused and in the layouts
  // of its own kernels: what open_bytes() takes with graph_optimization_level 0, on a machine of
  // this kind. Errors: those of open_bytes(); kUnimplemented where the library does not tell.
  virtual Result<std::string> optimise(std::span<const std::byte> model,
                                       const OpenOptions& options) = 0;
};

}  // namespace outboard::engine
