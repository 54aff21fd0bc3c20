// SPDX-License-Identifier: Apache-2.0
// `outboard worker`: what `outboard serve` starts to compute a tenant's models apart
// (serve/worker/inside.h). Nobody calls it by hand, so no help lists it.
#include <sys/stat.h>

#include <CLI/CLI.hpp>

#include "base/log.h"
#include "cli/serve_options.h"
#include "cli/verbs.h"
#include "engine/onnxruntime/engine.h"
#include "serve/worker/inside.h"

namespace outboard::cli {
namespace {

struct WorkerArguments {
  engine::OnnxRuntimeOptions engine;
  serve::WorkerSetting setting;
  std::string log_level = "info";
};

Result<void> work(WorkerArguments arguments) {
  set_log_level(log_level_of(arguments.log_level));
  struct stat status{};
  if (::fstat(serve::kHandoverDescriptor, &status) != 0 || !S_ISSOCK(status.st_mode))
    return error(ErrorKind::kInvalid, "a worker is started by outboard serve, not by hand");
  arguments.setting.library = arguments.engine.library;
  arguments.setting.gpu = arguments.engine.device != "cpu";
  arguments.engine.shared_threads = true;
  return serve::run_worker(arguments.setting,
                           [&] { return engine::load_onnxruntime(arguments.engine); });
}

}  // namespace

void add_worker(CLI::App& app, int& exit_code) {
  auto a = std::make_shared<WorkerArguments>();
  CLI::App* verb = app.add_subcommand("worker", "Compute a tenant's models for outboard serve");
  verb->group("");
  verb->add_option("--ort-library", a->engine.library)->required();
  verb->add_option("--device", a->engine.device);
  verb->add_option("--threads", a->engine.threads);
  verb->add_flag("--spin", a->engine.spin);
  verb->add_option("--memory", a->setting.memory_bytes);
  verb->add_option("--nice", a->setting.nice);
  verb->add_option("--log-level", a->log_level);
  verb->callback([a, &exit_code] {
    if (auto done = work(*a); !done) exit_code = report(done.error());
  });
}

}  // namespace outboard::cli
