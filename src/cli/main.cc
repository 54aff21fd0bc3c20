// SPDX-License-Identifier: Apache-2.0
// The `outboard` program: parses the command line and hands over to a verb.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/verbs.h"

namespace outboard::cli {

int report(const Error& error) {
  std::fprintf(stderr, "outboard: %s\n", error.message.c_str());
  return 1;
}

namespace {

// In the order in which `outboard --help` lists them.
constexpr void (*kVerbs[])(CLI::App&, int&) = {
    add_run, add_serve, add_status, add_push, add_profile, add_version,
};

}  // namespace
}  // namespace outboard::cli

int main(int argc, char** argv) {
  CLI::App app{"Runs an unmodified deep-learning program with an accelerator in another machine",
               "outboard"};
  app.require_subcommand(1);
  app.get_formatter()->column_width(36);
  int exit_code = 0;
  for (auto* add : outboard::cli::kVerbs) add(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return exit_code;
}
