// SPDX-License-Identifier: Apache-2.0
// An Engine whose sessions are computed together with other nodes when that pays: another engine,
// wrapped. What it cannot split it opens as the other does. Thread-safe.
#pragma once

#include <functional>
#include <memory>

#include "split/exec/split_session.h"

namespace outboard::split::exec {

// `options`: made anew for each session (clients are not shared between them).
std::unique_ptr<engine::Engine> make_split_engine(std::unique_ptr<engine::Engine> engine,
                                                  std::function<SplitOptions()> options);

}  // namespace outboard::split::exec
