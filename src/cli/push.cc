// SPDX-License-Identifier: Apache-2.0
// `outboard push`: uploads a model to a server ahead of time.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/servers_file.h"
#include "cli/verbs.h"
#include "wire/client.h"

namespace outboard::cli {
namespace {

Result<void> push(const std::string& path, const std::string& address, bool insecure) {
  OB_TRY(const wire::Access access, resolve_server(address, insecure));
  OB_TRY(const auto package, wire::ModelPackage::from_path(path));
  const std::string id = package->id().hex();
  const double megabytes = static_cast<double>(package->total_bytes()) / 1e6;
  wire::ClientOptions options;
  options.software = "outboard " OUTBOARD_VERSION " push";
  wire::Client client(access, std::move(options));
  OB_TRY(const wire::ModelState before, client.query(package->manifest()));
  if (before.complete) {
    std::printf("%s (%.1f MB) is already there\n", id.c_str(), megabytes);
    return {};
  }
  std::uint64_t there = 0;
  for (const std::uint64_t bytes : before.have_bytes) there += bytes;
  const Interrupt interrupt;
  ProgressLine line;
  OB_CHECK_OK(client.upload(*package, [&](std::uint64_t done, std::uint64_t total) {
    line.show_bytes(path, done, total);
    return !interrupt.requested();
  }));
  line.wipe();
  OB_TRY(const wire::ModelState after, client.query(package->manifest()));
  if (!after.complete)
    return error(ErrorKind::kInternal, "the server ({}) did not keep the whole model", address);
  std::printf("%s (%.1f MB) uploaded", id.c_str(), megabytes);
  if (there > 0) std::printf(", %.1f MB of it before", static_cast<double>(there) / 1e6);
  std::printf("\n");
  return {};
}

}  // namespace

void add_push(CLI::App& app, int& exit_code) {
  struct Arguments {
    std::string model, address;
    bool insecure = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand(
      "push",
      "Upload a model with its external data to a server, so that it is there when a program "
      "needs it. An upload that broke off resumes");
  verb->add_option("MODEL", arguments->model, "The model's file")->required();
  verb->add_option("ADDR", arguments->address, "The server: a known name, HOST:PORT or unix:PATH")
      ->required();
  verb->add_flag("--insecure", arguments->insecure,
                 "Without encryption, and whoever answers there, where no access is known");
  verb->callback([arguments, &exit_code] {
    if (auto pushed = push(arguments->model, arguments->address, arguments->insecure); !pushed)
      exit_code = report(pushed.error());
  });
}

}  // namespace outboard::cli
