// SPDX-License-Identifier: Apache-2.0
// The `outboard` program: parses the command line and hands over to a verb.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/verbs.h"

namespace outboard::cli {

namespace {

std::vector<std::string> after_dashes;

// Keeps what follows the first "--", and returns how many arguments stand before it.
int cut_at_dashes(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) != "--") continue;
    after_dashes.assign(argv + i + 1, argv + argc);
    return i;
  }
  return argc;
}

}  // namespace

const std::vector<std::string>& command_after_dashes() { return after_dashes; }

int report(const Error& error) {
  std::fprintf(stderr, "outboard: %s\n", error.message.c_str());
  return 1;
}

}  // namespace outboard::cli

int main(int argc, char** argv) {
  // CLI11 would take options of the command for its own, even behind `--`.
  argc = outboard::cli::cut_at_dashes(argc, argv);
  if (!outboard::cli::command_after_dashes().empty() && argc > 1 &&
      std::string_view(argv[1]) != "run") {
    std::fprintf(stderr, "outboard: verb (%s) takes no command after --; only run does\n", argv[1]);
    return 2;
  }
  CLI::App app{"Runs an unmodified deep-learning program with an accelerator in another machine",
               "outboard"};
  app.require_subcommand(1);
  app.get_formatter()->column_width(36);
  int exit_code = 0;
  for (const auto add : outboard::cli::verbs()) add(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return exit_code;
}
