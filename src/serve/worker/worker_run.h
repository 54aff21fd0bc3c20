// SPDX-License-Identifier: Apache-2.0
// A Run of an engine's session as one of a worker's: its inputs go over by shared memory, its
// outputs come to where the caller wants them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "engine/engine.h"
#include "serve/buffers.h"
#include "serve/worker/worker_memory.h"
#include "wire/client.h"

namespace outboard::serve {

struct OutputMemory {
  BufferPool* pool = nullptr;
  std::uint64_t limit_bytes = 0;  // of one Run's outputs, which a worker could claim; 0: none
};

// `control` is one of make_worker_run_control(), or null. Thread-safe.
Result<std::unique_ptr<engine::RunOutputs>> run_in_worker(
    wire::RemoteSession& session, std::span<const engine::InputView> inputs,
    std::span<const engine::OutputWanted> outputs, engine::RunControl* control,
    OutputMemory memory);

// The same where the tensors lie in memory that both have; `placed` is the session that computes
// there (placed_session.h), `outputs` all with a buffer in it.
Result<std::unique_ptr<engine::RunOutputs>> run_placed(
    wire::RemoteSession& placed, const Places& places,
    std::span<const engine::OutputWanted> outputs, engine::RunControl* control,
    OutputMemory memory);

}  // namespace outboard::serve
