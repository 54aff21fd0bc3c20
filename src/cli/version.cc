// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/verbs.h"

namespace outboard::cli {

void add_version(CLI::App& app, int& /*exit_code*/) {
  app.add_subcommand("version", "Print the version")->callback([] {
    std::puts("outboard " OUTBOARD_VERSION);
  });
}

}  // namespace outboard::cli
