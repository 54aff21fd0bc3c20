// SPDX-License-Identifier: Apache-2.0
// What runs inside a worker process: one tenant's models, in a sandbox. It is a server
// (serve/server.h) without a store, addresses or clients of its own; its one client is the server
// that started it, which hands it connections and models over descriptor 3 (handover.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"

namespace outboard::serve {

inline constexpr int kHandoverDescriptor = 3;

struct WorkerSetting {
  std::string library;             // what the engine loads; its folder may be read until then
  bool gpu = false;                // the wide sandbox
  std::uint64_t memory_bytes = 0;  // 0: no limit
  int nice = 0;
};

// Enters the sandbox, with `load` between its steps, and serves until the server lets go of it.
// Errors are those of the start: a worker without its sandbox does not serve.
Result<void> run_worker(const WorkerSetting& setting,
                        const std::function<Result<std::unique_ptr<engine::Engine>>()>& load);

}  // namespace outboard::serve
