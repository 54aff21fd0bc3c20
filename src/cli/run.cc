// SPDX-License-Identifier: Apache-2.0
// `outboard run`: sets the environment in which the interposer is loaded, and becomes the command,
// so that its exit status, signals and standard streams are its own.
#include <unistd.h>

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>

#include "base/array_document.h"
#include "cli/near_use.h"
#include "cli/servers_file.h"
#include "cli/verbs.h"

namespace outboard::cli {
namespace {

namespace fs = std::filesystem;
constexpr const char* kLibraryName = "liboutboard_onnxruntime.so";

struct RunArguments {
  std::vector<std::string> servers;
  std::string mode = "auto", spool = "disk";
  bool insecure = false;
  std::optional<bool> summary;
  std::string json, trace, log_level, coding;
  std::string deadline_ms, verify;  // as given, for the programs to read
  bool verify_strict = false;
};

// Numbers from 0 (or above it) to `high`.
CLI::Validator number_within(const char* what, double high, bool from_zero) {
  return CLI::Validator(
      [=](const std::string& text) {
        char* end = nullptr;
        const double value = std::strtod(text.c_str(), &end);
        const bool is_number = !text.empty() && end == text.c_str() + text.size();
        if (is_number && value <= high && (from_zero ? value >= 0 : value > 0))
          return std::string();
        return fmt::format("{} ({}) must be a number {} {}", what, text,
                           from_zero ? "from 0 to" : "above 0 and at most", high);
      },
      "NUMBER");
}

// What `outboard run` loads into programs: beside this executable in a build tree, in ../lib where
// it was installed.
struct Interposer {
  fs::path library, python;
};

Result<Interposer> find_interposer() {
  std::error_code code;
  const fs::path self = fs::read_symlink("/proc/self/exe", code).parent_path();
  for (const fs::path& folder : {self, self.parent_path() / "lib" / "outboard"}) {
    if (fs::exists(folder / kLibraryName, code)) {
      // The loader splits LD_PRELOAD at both.
      if (folder.string().find_first_of(" :") != std::string::npos) {
        return error(ErrorKind::kInvalid,
                     "folder ({}) must have neither blanks nor colons in its "
                     "name, or the library in it cannot be preloaded",
                     folder.string());
      }
      return Interposer{folder / kLibraryName, folder / "python" / "outboard" / "site"};
    }
  }
  return error(ErrorKind::kNotFound, "library ({}) is neither beside ({}) nor in ({})",
               kLibraryName, (self / "outboard").string(),
               (self.parent_path() / "lib" / "outboard").string());
}

void set_environment(const char* name, const std::string& value) {
  ::setenv(name, value.c_str(), /*overwrite=*/1);
}

// NAME=value:what it was before. A value that is there already is not put there twice.
void prepend_environment(const char* name, const std::string& value) {
  const char* before = std::getenv(name);
  const std::string old = before == nullptr ? "" : before;
  if (old == value || old.starts_with(value + ":")) return;
  set_environment(name, old.empty() ? value : value + ":" + old);
}

Result<std::string> server_list(const RunArguments& arguments) {
  std::string list;
  for (const std::string& server : arguments.servers) {
    OB_TRY(const std::string item, server_item(server));
    list.append(list.empty() ? "" : ",").append(item);
  }
  if (list.empty()) {
    const char* inherited = std::getenv("OUTBOARD_SERVERS");
    if (inherited != nullptr) list = inherited;
  }
  if (!list.empty() || arguments.mode == "local") return list;
  auto near = near_server_list();
  if (!near)
    return error(ErrorKind::kInvalid,
                 "no server was given (--server ADDR, or OUTBOARD_SERVERS in the environment), and "
                 "none nearby can be used: {}",
                 near.error().message);
  return near;
}

// The report's absolute path, emptied; "" when none is asked for.
Result<std::string> fresh_report(const std::string& path, std::string_view head) {
  if (path.empty()) return std::string();
  std::string absolute = fs::absolute(path).string();
  OB_CHECK_OK(create_array_document(absolute, head));
  return absolute;
}

Result<void> prepare(const RunArguments& arguments) {
  OB_TRY(const Interposer interposer, find_interposer());
  OB_TRY(const std::string servers, server_list(arguments));
  OB_TRY(const std::string json, fresh_report(arguments.json, kReportHead));
  OB_TRY(const std::string trace, fresh_report(arguments.trace, kTraceHead));
  set_environment("OUTBOARD_SERVERS", servers);
  if (arguments.insecure) {
    warn_of_insecurity();
    set_environment("OUTBOARD_INSECURE", "1");
  }
  set_environment("OUTBOARD_MODE", arguments.mode);
  set_environment("OUTBOARD_SPOOL", arguments.spool);
  if (!arguments.coding.empty()) set_environment("OUTBOARD_CODING", arguments.coding);
  if (!arguments.deadline_ms.empty())
    set_environment("OUTBOARD_DEADLINE_MS", arguments.deadline_ms);
  if (!arguments.verify.empty()) set_environment("OUTBOARD_VERIFY", arguments.verify);
  if (arguments.verify_strict) set_environment("OUTBOARD_VERIFY_STRICT", "1");
  const bool summary = arguments.summary.value_or(::isatty(STDERR_FILENO) == 1);
  set_environment("OUTBOARD_SUMMARY", summary ? "1" : "0");
  set_environment("OUTBOARD_JSON", json);
  set_environment("OUTBOARD_TRACE", trace);
  set_environment("OUTBOARD_LIBRARY", interposer.library.string());
  if (!arguments.log_level.empty()) set_environment("OUTBOARD_LOG", arguments.log_level);
  prepend_environment("LD_PRELOAD", interposer.library.string());
  prepend_environment("PYTHONPATH", interposer.python.string());
  return {};
}

// Returns only when the command could not be started: a shell's numbers.
int become(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (const std::string& argument : command) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::fflush(nullptr);
  ::execvp(argv[0], argv.data());
  const int code = errno;
  std::fprintf(stderr, "outboard: command (%s) cannot be started: %s\n", argv[0],
               std::generic_category().message(code).c_str());
  return code == ENOENT ? 127 : 126;
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<RunArguments>();
  CLI::App* run = app.add_subcommand("run",
                                     "Run a program, unchanged, with its inference on a server: "
                                     "outboard run [OPTIONS] -- CMD [ARGS]");
  run->add_option("--server", arguments->servers,
                  "A server: a name that `outboard login` was told of, HOST[:PORT] or unix:PATH; "
                  "repeatable, in the order of preference. "
                  "Default: OUTBOARD_SERVERS, separated by commas; else the servers nearby for "
                  "which a token is held (`outboard servers` lists them)")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  run->add_flag("--insecure", arguments->insecure,
                "Talk to servers beyond this machine without encryption and without knowing who "
                "they are, where no access is known");
  run->add_option("--mode", arguments->mode,
                  "auto: a session's Runs go to the server as soon as it has the model, and are "
                  "answered here until then; remote: creating a session waits for the server; "
                  "local: everything runs here")
      ->check(CLI::IsMember({"auto", "remote", "local"}))
      ->capture_default_str();
  run->add_option("--spool", arguments->spool,
                  "Where a model that the program passes as bytes is kept, to be opened again "
                  "should the server be lost")
      ->check(CLI::IsMember({"disk", "memory", "none"}))
      ->capture_default_str();
  run->add_option("--coding", arguments->coding,
                  "How tensors travel. auto: in fewer bytes where that is measured to be sooner "
                  "(always the same bits); off: as they are; palette, lz4 or zstd: always so, "
                  "for comparison. Default: OUTBOARD_CODING, else auto")
      ->check(CLI::IsMember({"auto", "off", "palette", "lz4", "zstd"}));
  run->add_option("--deadline-ms", arguments->deadline_ms,
                  "Answer each Run within so many milliseconds where that can be: a Run that is "
                  "late at a server is begun here, or on another server, while there is just time "
                  "enough for it. Without it: when a Run takes twice what hardly any took before. "
                  "Default: OUTBOARD_DEADLINE_MS")
      ->check(number_within("deadline", 86'400'000, false));
  run->add_option("--verify", arguments->verify,
                  "Do this share of the Runs (0 to 1), drawn at random, here as well as on a "
                  "server, and report where results differ. Default: OUTBOARD_VERIFY, else 0")
      ->check(number_within("share of Runs to verify", 1, true));
  run->add_flag("--verify-strict", arguments->verify_strict,
                "With --verify: a server whose result differs is not used any more by that "
                "process, and the Run has the result from here");
  run->add_flag("--summary,!--no-summary", arguments->summary,
                "Print a table at exit: where each session ran, and where the time of a Run went. "
                "Default: when standard error is a terminal");
  run->add_option("--json", arguments->json, "Write the summary to this file as JSON");
  run->add_option("--trace", arguments->trace,
                  "Write every Run to this file as Chrome trace events (Perfetto opens it)");
  run->add_option("--log-level", arguments->log_level, "What the interposer logs; default: warn")
      ->check(CLI::IsMember({"error", "warn", "info", "debug"}));
  run->allow_extras();  // a command without `--` deserves a sentence of its own
  run->callback([arguments, run, &exit_code] {
    if (!run->remaining().empty() || command_after_dashes().empty()) {
      const std::string given = run->remaining().empty() ? "nothing" : run->remaining().front();
      std::fprintf(stderr,
                   "outboard: argument (%s) was given where the command was expected after --, as "
                   "in: outboard run "
                   "--server HOST:PORT -- python app.py\n",
                   given.c_str());
      exit_code = 2;
      return;
    }
    if (const auto prepared = prepare(*arguments); !prepared) {
      exit_code = report(prepared.error());
      return;
    }
    exit_code = become(command_after_dashes());
  });
}

}  // namespace outboard::cli
