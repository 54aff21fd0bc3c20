// SPDX-License-Identifier: Apache-2.0
// What a program leaves behind: a table on standard error, the same as JSON, and a trace.
// docs/interception.md describes the fields. Formatting is pure; writing is not.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "intercept/common/account.h"
#include "intercept/common/config.h"
#include "intercept/common/server_link.h"
#include "intercept/common/trace.h"

namespace outboard::intercept {

struct ServerFigures {
  std::string address, state;
  std::uint64_t frames_sent = 0, frames_received = 0;
  std::string transport{};  // wire::Client::transport()
};

std::string_view name_of(ServerLink::State state);

std::string summary_table(const std::vector<AccountFigures>& sessions);
// One process's entry, an object. `ended`: it is on its way out, nothing will be added.
std::string summary_json(const Config& config, const std::vector<AccountFigures>& sessions,
                         const std::vector<ServerFigures>& servers, bool ended);

// Puts `entry` into the JSON file in the place of this process's `entry_before`, and remembers it
// there; a file that cannot be written is logged.
void write_summary_json(const Config& config, std::string entry, std::string& entry_before);
// The table and the trace, as far as the configuration asks for them.
void write_table_and_trace(const Config& config, const std::vector<AccountFigures>& sessions,
                           const Trace& trace);

}  // namespace outboard::intercept
