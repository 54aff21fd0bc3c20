// SPDX-License-Identifier: Apache-2.0
// `outboard manage`: latency models of shared accelerators, and what is decided with them.
#include <spawn.h>
#include <sys/wait.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "cli/manage_verbs.h"
#include "cli/verbs.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace outboard::cli {

Result<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file || file.bad()) return error(ErrorKind::kNotFound, "file ({}) cannot be read", path);
  return text;
}

Result<void> write_picture(const std::string& path, const std::string& svg) {
  const bool png = path.ends_with(".png");
  if (!png && !path.ends_with(".svg")) {
    return error(ErrorKind::kInvalid, "plot ({}) must end in .svg or .png", path);
  }
  const std::string target = png ? path + ".svg" : path;
  std::ofstream file(target, std::ios::binary | std::ios::trunc);
  file << svg;
  file.close();
  if (!file) return error(ErrorKind::kNotFound, "file ({}) cannot be written", target);
  if (!png) return {};
  const char* arguments[] = {"rsvg-convert", "--zoom",       "2",    "--output",
                             path.c_str(),   target.c_str(), nullptr};
  pid_t child = 0;
  int status = 0;
  const bool started = posix_spawnp(&child, arguments[0], nullptr, nullptr,
                                    const_cast<char**>(arguments), environ) == 0;
  const bool done = started && waitpid(child, &status, 0) == child && status == 0;
  std::remove(target.c_str());
  if (!done) {
    return error(
        ErrorKind::kNotFound,
        "plot ({}) needs rsvg-convert (Debian package librsvg2-bin), which {}; an .svg needs "
        "nothing",
        path, started ? "failed" : "is not there");
  }
  return {};
}

void add_manage(CLI::App& app, int& exit_code) {
  auto* manage = app.add_subcommand(
      "manage", "Predict response times of applications that share accelerators, and place them");
  manage->require_subcommand(1);
  add_manage_predict(*manage, exit_code);
  add_manage_validate(*manage, exit_code);
  add_manage_place(*manage, exit_code);
  add_manage_explain(*manage, exit_code);
  add_manage_capacity(*manage, exit_code);
  add_manage_simulate(*manage, exit_code);
}

}  // namespace outboard::cli
