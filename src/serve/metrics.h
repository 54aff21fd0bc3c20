// SPDX-License-Identifier: Apache-2.0
// What a server counts, in Prometheus' text format (names and units by its conventions;
// docs/operations.md lists them), for who runs the server: tenants are named. Thread-safe.
#pragma once

#include <string>

#include "serve/shared.h"

namespace outboard::serve {

std::string metrics_text(const Shared& shared);

}  // namespace outboard::serve
