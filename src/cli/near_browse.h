// SPDX-License-Identifier: Apache-2.0
// Listens for servers nearby (mDNS and DNS-SD, by Avahi's daemon). Thread-safe.
// Errors: kNotFound without Avahi's library or daemon.
#pragma once

#include <chrono>
#include <vector>

#include "base/result.h"
#include "cli/near.h"

namespace outboard::cli {

// Avahi takes one second for everybody to answer; then the addresses of those that did.
inline constexpr std::chrono::milliseconds kNearTimeLimit{3000};

// Returns when all that answered have been resolved, or after `time_limit` with those that have.
// What makes no sense is left out, with a debug line in the log. At most 64.
Result<std::vector<NearServer>> near_servers(std::chrono::milliseconds time_limit = kNearTimeLimit);

}  // namespace outboard::cli
