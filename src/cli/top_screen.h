// SPDX-License-Identifier: Apache-2.0
// One screen of `outboard top`, from two status documents of a server. Pure; thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace outboard::cli {

struct TopScreen {
  std::string_view address;
  std::string_view earlier;  // the status before; empty: no rates yet
  std::string_view now;
  std::size_t columns = 80, rows = 24;  // what does not fit is left out
};

// Lines without escape sequences, each ended by '\n'. kInvalid when a text is no status document.
// Rates are taken over the servers' own clock (`uptime_s`); a server that was started anew in
// between has none.
Result<std::string> top_screen(const TopScreen& screen);

}  // namespace outboard::cli
