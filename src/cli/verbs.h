// SPDX-License-Identifier: Apache-2.0
// The verbs of `outboard`, one source file each. A verb adds its subcommand to the app and, when it
// is chosen, leaves the program's exit status in `exit_code`: 0 done, 1 failed (a sentence went to
// standard error), 2 bad command line. `run` passes its command's status on instead.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
}

namespace outboard::cli {

void add_login(CLI::App& app, int& exit_code);
void add_manage(CLI::App& app, int& exit_code);  // its verbs: manage_verbs.h
void add_profile(CLI::App& app, int& exit_code);
void add_run(CLI::App& app, int& exit_code);
void add_push(CLI::App& app, int& exit_code);
void add_serve(CLI::App& app, int& exit_code);
void add_servers(CLI::App& app, int& exit_code);
void add_split(CLI::App& app, int& exit_code);
void add_status(CLI::App& app, int& exit_code);
void add_top(CLI::App& app, int& exit_code);
void add_token(CLI::App& app, int& exit_code);
void add_worker(CLI::App& app, int& exit_code);  // started by serve
void add_version(CLI::App& app, int& exit_code);

using AddVerb = void (*)(CLI::App& app, int& exit_code);
// Those of this build, in the order in which `outboard --help` lists them: verbs_all.cc, or
// verbs_client.cc where OUTBOARD_CLIENT_ONLY is set.
std::span<const AddVerb> verbs();

// What followed the first `--` of the command line, untouched: the command of `run`.
const std::vector<std::string>& command_after_dashes();

// Prints "outboard: MESSAGE" to standard error and returns 1.
int report(const Error& error);

}  // namespace outboard::cli
