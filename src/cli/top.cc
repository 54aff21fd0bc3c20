// SPDX-License-Identifier: Apache-2.0
// `outboard top`: what a server does, refreshed until q.
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/interrupt.h"
#include "cli/servers_file.h"
#include "cli/top_screen.h"
#include "cli/verbs.h"
#include "wire/client.h"

namespace outboard::cli {
namespace {

struct TopArguments {
  std::string address;
  double interval_s = 1;
  std::size_t count = 0;
};

// The terminal's second screen, with keys that come at once; both as before at the end.
class Screen {
 public:
  Screen() : there_(::isatty(STDOUT_FILENO) == 1 && ::isatty(STDIN_FILENO) == 1) {
    if (!there_) return;
    ::tcgetattr(STDIN_FILENO, &before_);
    termios keys = before_;
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &keys);
    put("\033[?1049h\033[?25l");
  }
  ~Screen() {
    if (!there_) return;
    put("\033[?25h\033[?1049l");
    ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  bool there() const { return there_; }
  winsize size() const {
    winsize size{};
    if (!there_ || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0)
      size = {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
    return size;
  }
  void show(std::string_view text) const {
    put(there_ ? "\033[H\033[J" : "");
    put(text);
  }
  // Whether q was pressed within the time.
  bool quits_within(double seconds) const {
    pollfd input{.fd = there_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
    char key = 0;
    return ::poll(&input, 1, static_cast<int>(seconds * 1e3)) > 0 &&
           (::read(STDIN_FILENO, &key, 1) != 1 || key == 'q');
  }

 private:
  static void put(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  const bool there_;
  termios before_{};
};

Result<void> watch(const TopArguments& arguments) {
  OB_TRY(const wire::Access access, resolve_server(arguments.address, /*insecure=*/false));
  wire::ClientOptions options;
  options.software = "outboard " OUTBOARD_VERSION " top";
  wire::Client client(access, std::move(options));
  OB_TRY(std::string now,
         client.status());  // before the screen changes: a wrong address is said plainly
  const Interrupt interrupt;
  const Screen screen;
  std::string earlier;
  for (std::size_t shown = 1;; ++shown) {
    const winsize size = screen.size();
    OB_TRY(const std::string text, top_screen({.address = arguments.address,
                                               .earlier = earlier,
                                               .now = now,
                                               .columns = screen.there() ? size.ws_col : 1000u,
                                               .rows = screen.there() ? size.ws_row - 1u : 1000u}));
    screen.show(text);
    if (shown == arguments.count) return {};
    for (bool answered = false; !answered;) {
      if (screen.quits_within(arguments.interval_s) || interrupt.requested()) return {};
      Result<std::string> next = client.status();
      if (!next && !screen.there()) return tl::unexpected(next.error());
      answered = next.has_value();
      if (!answered)
        screen.show(next.error().message + "\n(asks again; q ends)\n");
      else
        earlier = std::exchange(now, std::move(*next));
    }
  }
}

}  // namespace

void add_top(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<TopArguments>();
  CLI::App* verb = app.add_subcommand(
      "top", "Watch a server: Runs, queue, times and models, refreshed until q is pressed");
  verb->add_option("ADDR", arguments->address, "The server: a known name, HOST:PORT or unix:PATH")
      ->required();
  verb->add_option("--interval", arguments->interval_s, "Seconds between two looks")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  verb->add_option(
          "--count", arguments->count,
          "End after so many screens; 0 goes on until q (or, where there is no terminal, a signal)")
      ->capture_default_str();
  verb->callback([arguments, &exit_code] {
    if (auto watched = watch(*arguments); !watched) exit_code = report(watched.error());
  });
}

}  // namespace outboard::cli
