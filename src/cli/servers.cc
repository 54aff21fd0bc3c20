// SPDX-License-Identifier: Apache-2.0
// `outboard servers`: the servers that `outboard login` was told of, and those nearby.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <set>
#include <thread>

#include "cli/near_browse.h"
#include "cli/near_use.h"
#include "cli/servers_file.h"
#include "cli/status_values.h"
#include "cli/verbs.h"
#include "wire/client.h"

namespace outboard::cli {
namespace {

struct Row {
  std::string name, place, device = "-", load = "-", token;
  wire::Access access;
  std::string problem;  // a sentence
};

// Near servers first, at the addresses at which they were heard; then known ones that were not.
std::vector<Row> rows_of(const std::vector<NearServer>& near, const std::vector<Held>& held) {
  std::vector<Row> rows;
  std::set<const Held*> seen;
  for (const NearServer& server : near) {
    const NearMatch match = match_near(server, held);
    Row row{.name = server.name, .place = "near", .token = "none", .access = {}, .problem = {}};
    if (!server.device.empty()) row.device = server.device;
    if (match.held != nullptr) {
      seen.insert(match.held);
      row.name = match.held->name;
      row.token = "held";
      row.access = match.held->access;
    } else if (!match.refusal.empty()) {
      row.token = "refused";
      row.problem = match.refusal;
    } else if (!server.identity) {
      row.token = "insecure";
    }
    row.access.endpoint = server.endpoint;
    rows.push_back(std::move(row));
  }
  for (const Held& known : held) {
    if (seen.contains(&known)) continue;
    rows.push_back({.name = known.name,
                    .place = "known",
                    .token = known.access.token.empty() ? "none" : "held",
                    .access = known.access,
                    .problem = {}});
  }
  return rows;
}

// What the device's next Run would find. A server tells it to who has shown a token.
Result<void> ask(Row& row) {
  wire::ClientOptions options;
  options.software = "outboard " OUTBOARD_VERSION " servers";
  wire::Client client(row.access, std::move(options));
  OB_TRY(const std::string status, client.status());
  row.device = printable(text(at(json::parse(status, nullptr, false), {"device"})), 64);
  OB_TRY(const wire::ProbeAccount probe, client.probe(0, 0));
  const double wait_us = static_cast<double>(probe.server.wait_ns) / 1e3;
  row.load = probe.server.is_draining ? "draining"
             : wait_us > 0            ? "wait " + time(json(wait_us))
                                      : "free";
  return {};
}

void ask_all(std::vector<Row>& rows) {
  std::vector<std::thread> threads;
  for (Row& row : rows)
    if (row.token == "held")
      threads.emplace_back([&row] {
        if (auto asked = ask(row); !asked) {
          row.load = "no answer";
          row.problem = asked.error().message;
        }
      });
  for (std::thread& thread : threads) thread.join();
}

Result<void> list_servers() {
  OB_TRY(const auto held, held_servers());
  auto near = near_servers();
  if (!near)
    fmt::print(stderr, "outboard: servers nearby are not listed: {}\n", near.error().message);
  std::vector<Row> rows = rows_of(near ? *near : std::vector<NearServer>(), held);
  ask_all(rows);
  if (!rows.empty())
    fmt::print("{:<20} {:<6} {:<24} {:<10} {:<12} {}\n", "name", "where", "address", "device",
               "load", "token");
  for (const Row& row : rows)
    fmt::print("{:<20} {:<6} {:<24} {:<10} {:<12} {}\n", row.name, row.place,
               row.access.endpoint.to_string(), row.device, row.load, row.token);
  for (const Row& row : rows)
    if (!row.problem.empty()) fmt::print(stderr, "outboard: {}: {}\n", row.name, row.problem);
  return {};
}

}  // namespace

void add_servers(CLI::App& app, int& exit_code) {
  auto name = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand(
      "servers",
      "List the servers nearby (by Avahi) and those that `outboard login` was told of: device, "
      "load, and whether a token is held");
  CLI::App* forget = verb->add_subcommand("forget", "Forget a server and its token");
  forget->add_option("NAME", *name, "The server's name")->required();
  verb->callback([name, forget, &exit_code] {
    auto done = forget->parsed() ? forget_server(*name) : list_servers();
    if (!done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
