// SPDX-License-Identifier: Apache-2.0
// How much of one core this process may use: 1, or less where its control group has a CPU quota (a
// container's --cpus, a Kubernetes limit). Versions 1 and 2 of control groups.
//
// Thread-safe, no state. An unreadable or unlimited group counts as a whole core.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace outboard::intercept {

// The content of a file; nullopt where it cannot be read.
using ReadFile = std::function<std::optional<std::string>(const std::string& path)>;

double cpu_share(const ReadFile& read);  // of this process's group and those above it
double cpu_share();                      // from /proc and /sys

}  // namespace outboard::intercept
