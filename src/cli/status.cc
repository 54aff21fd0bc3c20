// SPDX-License-Identifier: Apache-2.0
// `outboard status`: what a server is, has and does.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/servers_file.h"
#include "cli/status_table.h"
#include "cli/verbs.h"
#include "wire/client.h"

namespace outboard::cli {
namespace {

Result<void> show_status(const std::string& address, bool as_json, bool insecure) {
  OB_TRY(const wire::Access access, resolve_server(address, insecure));
  wire::ClientOptions options;
  options.software = "outboard " OUTBOARD_VERSION " status";
  wire::Client client(access, std::move(options));
  OB_TRY(std::string text, client.status());
  if (as_json) {
    text += '\n';
  } else {
    OB_TRY(text, status_table(text));
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

}  // namespace

void add_status(CLI::App& app, int& exit_code) {
  struct Arguments {
    std::string address;
    bool as_json = false, insecure = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand(
      "status", "Show a server's device, engine, models, sessions, Runs and times");
  verb->add_option("ADDR", arguments->address, "The server: a known name, HOST:PORT or unix:PATH")
      ->required();
  verb->add_flag("--insecure", arguments->insecure,
                 "Without encryption, and whoever answers there, where no access is known");
  verb->add_flag("--json", arguments->as_json, "Print the server's JSON document as it is");
  verb->callback([arguments, &exit_code] {
    if (auto shown = show_status(arguments->address, arguments->as_json, arguments->insecure);
        !shown)
      exit_code = report(shown.error());
  });
}

}  // namespace outboard::cli
