// SPDX-License-Identifier: Apache-2.0
// An engine whose sessions are in a tenant's worker process. A session that has lost its worker (it
// crashed, was ended by a limit, or made room for another) opens its model in the next one when it
// runs again; a Run that was under way is made once more there, because it may have died of another
// one's model, unless it took too long. Thread-safe; sessions keep what they need.
// It is an engine::ModelOptimiser as well, with what the engine in the worker shows.
//
// Errors of open() and run(): those of the engine in the worker, unchanged; and for a worker that
// has ended meanwhile kInternal where the call was the only one under way, so that its model is to
// blame, else kNotFound: it may be tried again. kOverloaded: no worker now.
#pragma once

#include <memory>

#include "engine/engine.h"
#include "serve/tenant.h"

namespace outboard::serve {

class Workers;

std::unique_ptr<engine::Engine> make_worker_engine(std::shared_ptr<Workers> workers,
                                                   const TenantSpec& tenant);
std::unique_ptr<engine::RunControl> make_worker_run_control();

}  // namespace outboard::serve
