// SPDX-License-Identifier: Apache-2.0
// `outboard login`: takes the line that a server's operator handed over, from standard input, and
// remembers how to reach that server.
#include <termios.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "cli/servers_file.h"
#include "cli/verbs.h"
#include "wire/client.h"

namespace outboard::cli {
namespace {

// While it lives, a terminal does not show what is typed.
class NoEcho {
 public:
  NoEcho() {
    if (::isatty(STDIN_FILENO) == 0 || ::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    is_changed_ = ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) == 0;
    std::fprintf(stderr, "Line from the server's operator (it is not shown): ");
  }
  ~NoEcho() {
    if (!is_changed_) return;
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
    std::fprintf(stderr, "\n");
  }
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;

 private:
  termios before_{};
  bool is_changed_ = false;
};

struct LoginArguments {
  std::string name, ca;
  bool unchecked = false;
};

Result<void> login(const LoginArguments& arguments) {
  std::string line;
  {
    const NoEcho no_echo;
    std::getline(std::cin, line);
  }
  OB_TRY(wire::Access access, wire::parse_login_line(line));
  if (!arguments.ca.empty()) {
    access.ca_path = std::filesystem::absolute(arguments.ca).string();
    access.identity.reset();
  }
  if (!access.is_secured())
    return error(ErrorKind::kInvalid,
                 "the line names no identity (?id=FINGERPRINT), and no authorities were given "
                 "(--ca FILE)");
  const std::string name = arguments.name.empty() ? access.endpoint.host : arguments.name;
  OB_TRY(const auto servers, known_servers());
  if (!arguments.unchecked) {
    wire::ClientOptions options;
    options.software = "outboard " OUTBOARD_VERSION " login";
    wire::Client client(access, std::move(options));
    OB_CHECK_OK(client.hello());
  }
  OB_CHECK_OK(remember_server(name, access));
  std::printf("%s is known now: outboard run --server %s -- CMD\n",
              access.endpoint.to_string().c_str(), name.c_str());
  return {};
}

}  // namespace

void add_login(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<LoginArguments>();
  CLI::App* verb = app.add_subcommand(
      "login", "Read a line of `outboard token add` from standard input, and remember that server");
  verb->add_option("--name", arguments->name,
                   "The name for --server; default: the host in the line");
  verb->add_option("--ca", arguments->ca,
                   "A file of authorities' certificates (PEM) that vouch for the server's name, "
                   "instead of the identity in the line");
  verb->add_flag("--unchecked", arguments->unchecked,
                 "Remember it without asking the server whether it takes the token");
  verb->callback([arguments, &exit_code] {
    if (auto done = login(*arguments); !done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
