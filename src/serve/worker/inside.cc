// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/inside.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <limits>
#include <utility>

#include "base/log.h"
#include "serve/server.h"
#include "serve/worker/handed_models.h"
#include "serve/worker/handover.h"
#include "serve/worker/sandbox.h"
#include "wire/transport/socket.h"

namespace outboard::serve {
namespace {

// The kernel takes a worker before the server when the machine is out of memory.
void offer_to_the_oom_killer() {
  const wire::FileDescriptor file(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (file) [[maybe_unused]]
    const ssize_t written = ::write(file.get(), "500", 3);
}

// Whatever whoever started the server has left open.
void close_inherited() { ::close_range(kHandoverDescriptor + 1, ~0U, 0); }

// A terminal's Ctrl-C and a service manager's SIGTERM go to all processes; the server drains and
// then ends its workers.
void ignore_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
}

// All waiting, limits and counting is the server's.
ServerOptions open_handed(HandedModels& models) {
  ServerOptions options;
  options.local_models = &models;
  options.settings.software = "outboard worker";
  options.settings.slots = 1u << 16;
  options.settings.max_connections = 1u << 16;
  options.settings.max_in_flight_bytes = std::numeric_limits<std::uint64_t>::max() / 2;
  options.settings.kept_buffer_bytes = 64u << 20;
  options.settings.tensor_coding = false;
  options.sessions.max_sessions = 1u << 16;
  options.sessions.idle_time = std::chrono::nanoseconds::zero();  // the server keeps them
  return options;
}

Result<void> enter_files(const WorkerSetting& setting) {
  std::vector<std::string> readable = files_to_load(setting.library);
  std::vector<std::string> writable;
  if (setting.gpu) {
    for (std::string& path : gpu_files_to_read()) readable.push_back(std::move(path));
    writable = gpu_devices();
  }
  const auto landlock = restrict_files(readable, writable);
  if (landlock) {
    log_debug("sandbox landlock={}", *landlock);
    return {};
  }
  // Without it a narrow worker still cannot name a file; a wide one could open any.
  if (landlock.error().kind != ErrorKind::kUnimplemented || setting.gpu)
    return tl::make_unexpected(landlock.error());
  log_debug("sandbox landlock=0 reason=\"{}\"", landlock.error().message);
  return {};
}

bool take(Server& server, HandedModels& models, const Handover& handover,
          wire::FileDescriptor descriptor) {
  switch (handover.what) {
    case Handed::kConnection:
      if (!descriptor) return false;
      server.serve(wire::make_socket_stream(descriptor.release()));
      return true;
    case Handed::kModelFile:
    case Handed::kModelToShow: {
      const auto added = models.add(handover.model, handover.file_name, descriptor,
                                    handover.what == Handed::kModelToShow);
      if (!added) log_warn("model not taken reason=\"{}\"", added.error().message);
      return added.has_value();
    }
    case Handed::kForget:
      models.forget(handover.model);
      return true;
    case Handed::kMemory: {
      const auto added = models.memories().add(number_of(handover.model), descriptor);
      if (!added) log_warn("memory not taken reason=\"{}\"", added.error().message);
      return added.has_value();
    }
    case Handed::kForgetMemory:
      models.memories().forget(number_of(handover.model));
      return true;
    case Handed::kPlaced:
      models.place(handover.model, handover.file_name);
      return true;
  }
  return false;
}

}  // namespace

Result<void> run_worker(const WorkerSetting& setting,
                        const std::function<Result<std::unique_ptr<engine::Engine>>()>& load) {
  close_inherited();
  ignore_signals();
  offer_to_the_oom_killer();
  OB_CHECK_OK(give_up_privileges(setting.nice));
  OB_CHECK_OK(enter_files(setting));
  OB_TRY(auto engine, load());
  HandedModels models;
  OB_TRY(const auto server,
         Server::start(make_handed_engine(std::move(engine), models), open_handed(models)));
  OB_CHECK_OK(limit_memory(setting.memory_bytes));
  OB_CHECK_OK(restrict_calls(setting.gpu ? SystemCalls::kWide : SystemCalls::kNarrow));
  for (;;) {
    wire::FileDescriptor descriptor;
    const auto handover = take_handover(kHandoverDescriptor, descriptor);
    // At once: Runs that are under way have nobody left to answer.
    if (!handover) ::_exit(0);
    const bool taken = take(*server, models, *handover, std::move(descriptor));
    if (!answer_handover(kHandoverDescriptor, taken)) ::_exit(0);
  }
}

}  // namespace outboard::serve
