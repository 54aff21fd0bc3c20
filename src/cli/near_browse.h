// SPDX-License-Identifier: Apache-2.0
// Listens for servers nearby (mDNS and DNS-SD, by Avahi's daemon). Thread-safe.
// Errors: kNotFound without Avahi's library or daemon.
#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "cli/near.h"

namespace outboard::cli {

// Avahi waits one second for answers; then the addresses of those that answered are asked for.
inline constexpr std::chrono::milliseconds kNearTimeLimit{3000};

// Returns when all that answered have been resolved, or after `time_limit` with those that have;
// sooner once `is_enough` (may be empty) is true of what has been heard. What makes no sense is
// left out, with a debug line in the log. At most 64.
using IsEnough = std::function<bool(std::span<const NearServer>)>;
Result<std::vector<NearServer>> near_servers(const IsEnough& is_enough = {},
                                             std::chrono::milliseconds time_limit = kNearTimeLimit);

}  // namespace outboard::cli
