// SPDX-License-Identifier: Apache-2.0
// The simulated server's engine; see world.h.
#pragma once

#include <memory>

#include "engine/engine.h"
#include "tests/faults/sim/world.h"

namespace outboard::sim {

std::unique_ptr<engine::Engine> make_affine_engine(std::shared_ptr<EngineState> state);

}  // namespace outboard::sim
