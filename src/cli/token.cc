// SPDX-License-Identifier: Apache-2.0
// `outboard token`: who may use this machine's server, and how much of it.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <optional>

#include "base/files.h"
#include "cli/verbs.h"
#include "serve/identity.h"
#include "serve/tokens.h"
#include "wire/access.h"

namespace outboard::cli {
namespace {

struct TokenArguments {
  std::string state, tenant, id, address, output, expires;
  std::optional<double> weight, runs_per_s;
  std::optional<std::uint64_t> connections, sessions, concurrent_runs, in_flight_bytes, store_bytes,
      device_memory_bytes;
};

Result<std::string> state_folder(const TokenArguments& arguments) {
  if (!arguments.state.empty()) return arguments.state;
  return serve::default_state_folder();
}

// "30d", "12h", "15m" or "90s" from now; "": never.
Result<std::int64_t> expiry_s(const std::string& text) {
  if (text.empty()) return std::int64_t{0};
  const auto unit = std::string_view("smhd").find(text.back());
  constexpr std::int64_t kSeconds[] = {1, 60, 3600, 86400};
  std::int64_t count = 0;
  const char* end = text.data() + text.size() - 1;
  const auto [stopped, code] = std::from_chars(text.data(), end, count);
  if (unit == std::string_view::npos || code != std::errc() || stopped != end || count <= 0 ||
      count > 36'500)
    return error(ErrorKind::kInvalid,
                 "the time after which the token expires ({}) must be as 30d, 12h, 15m or 90s",
                 text);
  return now_s() + count * kSeconds[unit];
}

serve::TenantSpec tenant_of(const TokenArguments& a, const serve::TokenList& list) {
  serve::TenantSpec spec;
  const auto known = std::ranges::find(list.tenants, a.tenant, &serve::TenantSpec::name);
  if (known != list.tenants.end()) spec = *known;
  spec.name = a.tenant;
  spec.weight = a.weight.value_or(spec.weight);
  serve::TenantLimits& limits = spec.limits;
  limits.connections = a.connections.value_or(limits.connections);
  limits.sessions = a.sessions.value_or(limits.sessions);
  limits.concurrent_runs = a.concurrent_runs.value_or(limits.concurrent_runs);
  limits.in_flight_bytes = a.in_flight_bytes.value_or(limits.in_flight_bytes);
  limits.store_bytes = a.store_bytes.value_or(limits.store_bytes);
  limits.device_memory_bytes = a.device_memory_bytes.value_or(limits.device_memory_bytes);
  limits.runs_per_s = a.runs_per_s.value_or(limits.runs_per_s);
  return spec;
}

// Where clients will find the server, and who it is.
Result<wire::Access> access_of(const TokenArguments& arguments, const std::string& state) {
  OB_TRY(const serve::Reach reach, serve::read_reach(state));
  if (reach.addresses.empty() && arguments.address.empty())
    return error(ErrorKind::kInvalid,
                 "where clients reach the server is not known, as none has listened beyond this "
                 "machine with the state folder ({}) yet; give --address HOST:PORT",
                 state);
  OB_TRY(wire::Access access,
         wire::parse_endpoint(arguments.address.empty() ? reach.addresses.front()
                                                        : arguments.address));
  std::string fingerprint = reach.fingerprint;
  if (fingerprint.empty()) {
    OB_TRY(const wire::TlsIdentity identity, serve::load_or_make_identity(state));
    OB_TRY(access.identity, wire::fingerprint_of(identity.certificate_pem));
  } else {
    access.identity = Sha256::from_hex(fingerprint);
  }
  return access;
}

Result<void> add(const TokenArguments& arguments) {
  // Before anything is made: a token that nobody sees would be lost.
  if (arguments.output.empty() && ::isatty(STDOUT_FILENO) == 0)
    return error(ErrorKind::kInvalid,
                 "standard output is not a terminal, and a token is shown to no other; --output "
                 "FILE writes it to a file that only you can read");
  OB_TRY(const std::string state, state_folder(arguments));
  OB_CHECK_OK(make_folders(state));
  OB_TRY(wire::Access access, access_of(arguments, state));
  OB_TRY(const std::int64_t expires_s, expiry_s(arguments.expires));
  const std::string path = serve::tokens_path(state);
  OB_TRY(const serve::TokenList list, serve::read_tokens(path));
  OB_TRY(access.token, serve::add_token(path, tenant_of(arguments, list), now_s(), expires_s));
  const std::string line = wire::login_line(access) + "\n";
  if (!arguments.output.empty()) return write_secret_file(arguments.output, line);
  std::fwrite(line.data(), 1, line.size(), stdout);
  return {};
}

std::string time_text(std::int64_t time_s) {
  if (time_s == 0) return "never";
  const auto time = static_cast<std::time_t>(time_s);
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%F %R", &parts)};
}

std::string limits_text(const serve::TenantLimits& limits) {
  std::string text;
  const auto add = [&](const char* name, double value) {
    if (value > 0) text += fmt::format("{}{}={:.10g}", text.empty() ? "" : " ", name, value);
  };
  add("connections", static_cast<double>(limits.connections));
  add("sessions", static_cast<double>(limits.sessions));
  add("concurrent_runs", static_cast<double>(limits.concurrent_runs));
  add("in_flight_bytes", static_cast<double>(limits.in_flight_bytes));
  add("store_bytes", static_cast<double>(limits.store_bytes));
  add("device_memory_bytes", static_cast<double>(limits.device_memory_bytes));
  add("runs_per_s", limits.runs_per_s);
  return text.empty() ? "none" : text;
}

Result<void> list(const TokenArguments& arguments) {
  OB_TRY(const std::string state, state_folder(arguments));
  OB_TRY(const serve::TokenList list, serve::read_tokens(serve::tokens_path(state)));
  fmt::print("{:<10} {:<20} {:<16} {:<16} {:>6}  {}\n", "token", "tenant", "created (UTC)",
             "expires", "weight", "limits");
  for (const serve::TokenRow& token : list.tokens) {
    const auto tenant = std::ranges::find(list.tenants, token.tenant, &serve::TenantSpec::name);
    if (tenant == list.tenants.end()) continue;
    fmt::print("{:<10} {:<20} {:<16} {:<16} {:>6}  {}\n", token.id, token.tenant,
               time_text(token.created_s), token.revoked ? "revoked" : time_text(token.expires_s),
               tenant->weight, limits_text(tenant->limits));
  }
  return {};
}

Result<void> revoke(const TokenArguments& arguments) {
  OB_TRY(const std::string state, state_folder(arguments));
  return serve::revoke_token(serve::tokens_path(state), arguments.id);
}

void add_limits(CLI::App& verb, TokenArguments& a) {
  const auto count = [&](const char* name, std::optional<std::uint64_t>& value, const char* help) {
    verb.add_option(name, value, help)->check(CLI::NonNegativeNumber);
  };
  const auto bytes = [&](const char* name, std::optional<std::uint64_t>& value, const char* help) {
    verb.add_option(name, value, help)->transform(CLI::AsSizeValue(true));
  };
  verb.add_option("--weight", a.weight,
                  "The tenant's share of the device's time, against the others'; default 1")
      ->check(CLI::PositiveNumber);
  count("--connections", a.connections, "Connections at the same time; 0: half the server's");
  count("--sessions", a.sessions, "Sessions, of different models or options; 0: the server's");
  count("--concurrent-runs", a.concurrent_runs, "Runs that wait or compute; 0: no limit");
  bytes("--in-flight", a.in_flight_bytes, "Inputs of Runs under way, as 500MB; 0: the server's");
  bytes("--store", a.store_bytes, "Models in the store, as 20GB; 0: the server's --store-limit");
  bytes("--device-memory", a.device_memory_bytes,
        "Models that sessions have open, by the size of their files; 0: no limit");
  verb.add_option("--runs-per-s", a.runs_per_s, "Runs a second; 0: no limit")
      ->check(CLI::NonNegativeNumber);
}

}  // namespace

void add_token(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<TokenArguments>();
  CLI::App* verb = app.add_subcommand("token", "Admit tenants to this machine's server");
  verb->require_subcommand(1);
  const auto subcommand = [&](const char* name, const char* help, auto action) {
    CLI::App* sub = verb->add_subcommand(name, help);
    sub->add_option("--state", arguments->state,
                    "The server's state folder; default $XDG_STATE_HOME/outboard or "
                    "~/.local/state/outboard");
    sub->callback([arguments, action, &exit_code] {
      if (auto done = action(*arguments); !done) exit_code = report(done.error());
    });
    return sub;
  };
  CLI::App* adding = subcommand(
      "add", "Print one line, to a terminal, that admits its holder: the input of `outboard login`",
      add);
  adding
      ->add_option("TENANT", arguments->tenant, "The tenant's name: made, or given one more token")
      ->required();
  adding->add_option("--expires", arguments->expires,
                     "After this time, as 30d, 12h, 15m; default never");
  adding->add_option("--address", arguments->address,
                     "HOST:PORT as clients reach the server; default: as it listens");
  adding->add_option("--output", arguments->output,
                     "Write the line to this file (mode 0600) instead");
  add_limits(*adding, *arguments);
  subcommand("list", "List tokens by their ids, with their tenants", list);
  subcommand("revoke", "Take a token back: its connections end within a second", revoke)
      ->add_option("ID", arguments->id, "The token's id, as `outboard token list` shows it")
      ->required();
}

}  // namespace outboard::cli
