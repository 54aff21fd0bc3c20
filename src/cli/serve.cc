// SPDX-License-Identifier: Apache-2.0
// `outboard serve`: lends this machine's device to programs on others.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <thread>

#include "base/files.h"
#include "base/log.h"
#include "cli/announce.h"
#include "cli/serve_options.h"
#include "cli/server_log.h"
#include "cli/split_nodes.h"
#include "cli/verbs.h"
#include "engine/onnxruntime/engine.h"
#include "serve/http.h"
#include "serve/identity.h"
#include "serve/server.h"
#include "serve/tokens.h"
#include "serve/worker/workers.h"
#include "split/exec/split_engine.h"
#include "wire/access.h"

namespace outboard::cli {
namespace {

// SIGTERM and SIGINT come to wait_for_signal() alone; to be called before any thread is started.
sigset_t take_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return set;
}

std::string lines_of(const std::vector<wire::Endpoint>& addresses, const char* separator) {
  std::string lines;
  for (const wire::Endpoint& address : addresses)
    lines += (lines.empty() ? "" : separator) + address.to_string();
  return lines;
}

// Waits for the Runs under way; a second signal, or the time limit, ends them.
void drain(serve::Server& server, const sigset_t& signals, double timeout_s) {
  log_info("draining runs_in_flight={}", server.shared().statistics.in_flight.load());
  const Deadline deadline = Deadline::in(
      std::chrono::duration_cast<Nanoseconds>(std::chrono::duration<double>(timeout_s)));
  while (!server.drain(std::chrono::milliseconds(50))) {
    constexpr timespec kNow{.tv_sec = 0, .tv_nsec = 0};
    const bool again = ::sigtimedwait(&signals, nullptr, &kNow) > 0;
    if (!again && Clock::monotonic().now() < deadline.at) continue;
    log_warn("drain given up runs_in_flight={} reason=\"{}\"",
             server.shared().statistics.in_flight.load(),
             again ? "a second signal" : "the time limit");
    return;
  }
}

Result<std::string> state_folder(const ServeArguments& arguments) {
  if (!arguments.state.empty()) return arguments.state;
  return serve::default_state_folder();
}

Result<serve::Security> security_of(const ServeArguments& arguments,
                                    const std::vector<wire::Endpoint>& endpoints) {
  serve::Security security;
  security.listen = endpoints;
  if (arguments.certificate.empty() != arguments.key.empty())
    return error(ErrorKind::kInvalid, "--certificate and --key must be given together");
  OB_TRY(const std::string state, state_folder(arguments));
  OB_CHECK_OK(make_folders(state));
  if (arguments.certificate.empty()) {
    OB_TRY(security.identity, serve::load_or_make_identity(state));
  } else {
    OB_TRY(security.identity, serve::read_identity(arguments.certificate, arguments.key));
  }
  security.tokens_path = serve::tokens_path(state);
  return security;
}

// Leaves word in the state folder of how the server is reached and, at the first start, a token:
// in a file that only its owner may read.
Result<void> tell_state(const ServeArguments& arguments, const serve::Security& security,
                        const serve::Server& server) {
  OB_TRY(const std::string state, state_folder(arguments));
  OB_TRY(const Sha256 fingerprint, wire::fingerprint_of(security.identity.certificate_pem));
  serve::Reach reach{{}, fingerprint.hex()};
  const auto& addresses = server.addresses();
  for (std::size_t i = addresses.size() - security.listen.size(); i < addresses.size(); ++i)
    reach.addresses.push_back(serve::reachable(addresses[i]));
  OB_CHECK_OK(serve::write_reach(state, reach));
  log_info("identity fingerprint={} folder={}", reach.fingerprint, state);
  if (::access(security.tokens_path.c_str(), F_OK) == 0) return {};
  OB_TRY(wire::Access access, wire::parse_endpoint(reach.addresses.front()));
  access.identity = fingerprint;
  OB_TRY(access.token, serve::add_token(security.tokens_path, {"first", 1, {}}, now_s(), 0));
  OB_CHECK_OK(write_secret_file(state + "/first-token", wire::login_line(access) + "\n"));
  log_info("first token written file={} hint=\"its line is the input of `outboard login`\"",
           state + "/first-token");
  return {};
}

Result<serve::ServerOptions> server_options(const ServeArguments& arguments,
                                            const std::vector<wire::Access>& peers) {
  OB_TRY(const ListenAddresses addresses, parse_listen(arguments.listen));
  serve::ServerOptions options;
  options.listen = addresses.local;
  if (arguments.insecure) {
    for (const wire::Endpoint& endpoint : addresses.beyond_this_machine) {
      log_warn(
          "insecure address={} reason=\"anybody who reaches it can use this device and see what "
          "passes\"",
          endpoint.to_string());
      options.listen.push_back(endpoint);
    }
  } else if (!addresses.beyond_this_machine.empty()) {
    OB_TRY(options.security, security_of(arguments, addresses.beyond_this_machine));
  }
  options.store = {.folder = arguments.store, .limit_bytes = arguments.store_limit_bytes};
  if (options.store.folder.empty()) {
    OB_TRY(options.store.folder, default_store_folder());
  }
  options.settings.software = "outboard " OUTBOARD_VERSION;
  options.settings.slots = arguments.slots > 0 ? arguments.slots : default_slots(arguments.device);
  options.settings.max_connections = arguments.max_connections;
  options.settings.split.memory_limit_bytes = arguments.peers_memory_bytes;
  // On one thread, on the one that calls: its time is then known (split/exec/measure.cc).
  if (arguments.threads == 1) options.settings.split.threads = 1;
  options.settings.split.bands = open_bands(options.store.folder);
  if (!peers.empty()) {
    options.settings.split.tenant = arguments.peers_tenant;
    options.settings.split.connect = [peers](const std::string& address) {
      return connect_to_peer(peers, address);
    };
  }
  options.settings.shared_memory = !arguments.no_shared_memory;
  return options;
}

// Null where it is not asked for, and where Avahi is not there: named servers work without.
Result<std::unique_ptr<Announcement>> announcement_of(const ServeArguments& arguments,
                                                      const serve::ServerOptions& options,
                                                      const serve::Server& server) {
  if (!arguments.announce) return nullptr;
  Announced announced{.name = *arguments.announce,
                      .version = OUTBOARD_VERSION,
                      .device = arguments.device,
                      .identity = std::nullopt};
  if (options.security) {
    OB_TRY(announced.identity, wire::fingerprint_of(options.security->identity.certificate_pem));
  }
  auto announcement = Announcement::start(std::move(announced), server.addresses());
  if (announcement || announcement.error().kind != ErrorKind::kNotFound) return announcement;
  log_warn("not announced reason=\"{}\"", announcement.error().message);
  return nullptr;
}

Nanoseconds seconds(double value) {
  return std::chrono::duration_cast<Nanoseconds>(std::chrono::duration<double>(value));
}

// This program again, as its own worker.
Result<std::shared_ptr<serve::Workers>> start_workers(const ServeArguments& arguments) {
  std::string library = arguments.ort_library;
  if (const char* named = std::getenv("OUTBOARD_ORT_LIBRARY"); library.empty() && named != nullptr)
    library = named;
  if (library.empty()) {
    OB_TRY(library, engine::find_onnxruntime_library());
  }
  serve::Workers::Options options;
  options.memory_bytes =
      arguments.worker_memory_bytes > 0 ? arguments.worker_memory_bytes : default_worker_memory();
  options.command = {"/proc/self/exe", "worker", "--ort-library", library, "--device",
                     arguments.device, "--threads", std::to_string(arguments.threads),
                     "--log-level", arguments.log_level, "--memory",
                     // A GPU's driver reserves addresses as it likes.
                     std::to_string(arguments.device == "cpu" ? options.memory_bytes : 0)};
  if (arguments.spin) options.command.emplace_back("--spin");
  options.most = arguments.max_workers;
  options.idle_time = seconds(arguments.worker_idle_s);
  options.open_limit = seconds(arguments.open_limit_s);
  options.run_limit = seconds(arguments.run_limit_s);
  // A GPU computes one Run after the other; bands of several servers' inferences are counted in
  // turns.
  options.share_cpu = arguments.device == "cpu" && arguments.peers.empty();
  auto workers = serve::Workers::start(std::move(options));
  if (workers) return workers;
  return error(workers.error().kind,
               "models cannot be computed in processes of their own: {} (--isolation off computes "
               "them in the server's, unprotected)",
               workers.error().message);
}

using WrapEngine =
    std::function<std::unique_ptr<engine::Engine>(std::unique_ptr<engine::Engine> engine)>;

// The engine that the server shows, and that computes for whom it is not apart. What computes is
// wrapped.
Result<std::unique_ptr<engine::Engine>> make_engine(const ServeArguments& arguments,
                                                    serve::ServerOptions& options,
                                                    const WrapEngine& wrap) {
  OB_TRY(const ListenAddresses addresses, parse_listen(arguments.listen));
  const IsolationChoice apart =
      choose_isolation(arguments.isolation, addresses, arguments.insecure);
  if (apart.tenants || apart.local) {
    OB_TRY(options.workers, start_workers(arguments));
    options.isolate = [workers = options.workers, apart,
                       wrap](const serve::TenantSpec& tenant) -> std::shared_ptr<engine::Engine> {
      const bool local = tenant.name == serve::kLocalTenant;
      return (local ? apart.local : apart.tenants) ? wrap(workers->engine_for(tenant)) : nullptr;
    };
    options.has_share = [shares = options.workers->share_cpu(),
                         apart](const serve::TenantSpec& tenant) {
      return shares && (tenant.name == serve::kLocalTenant ? apart.local : apart.tenants);
    };
    log_info("isolation tenants={} local={} worker_memory_bytes={} max_workers={} shares={}",
             apart.tenants ? "on" : "off", apart.local ? "on" : "off",
             options.workers->options().memory_bytes, arguments.max_workers,
             options.workers->share_cpu() ? "kernel" : "queue");
    // Nothing of ONNX Runtime is in this process then.
    if (apart.local || addresses.local.empty()) return options.workers->facts();
  }
  OB_TRY(auto engine, engine::load_onnxruntime({.library = arguments.ort_library,
                                                .device = arguments.device,
                                                .shared_threads = true,
                                                .threads = arguments.threads,
                                                .spin = arguments.spin}));
  return wrap(std::move(engine));
}

Result<void> serve(const ServeArguments& arguments) {
  set_up_log(arguments.log_level, arguments.log_format);
  const sigset_t signals = take_signals();
  OB_TRY(const auto peers, resolve_peers(arguments.peers, arguments.insecure));
  OB_TRY(serve::ServerOptions options, server_options(arguments, peers));
  const WrapEngine split_with_peers =
      [peers, gain = arguments.peers_gain,
       node = options.settings.split](std::unique_ptr<engine::Engine> engine) {
        if (peers.empty()) return engine;
        return split::exec::make_split_engine(std::move(engine), [peers, gain, node] {
          auto split = options_of_peers(peers, gain);
          split.threads = node.threads;
          split.bands = node.bands;
          return split;
        });
      };
  OB_TRY(auto engine, make_engine(arguments, options, split_with_peers));
  const std::string engine_name = engine->name() + " " + engine->version();
  OB_TRY(const auto server, serve::Server::start(std::move(engine), options));
  if (options.security) OB_CHECK_OK(tell_state(arguments, *options.security, *server));
  OB_TRY(auto announcement, announcement_of(arguments, options, *server));
  const std::string addresses = lines_of(server->addresses(), ",");
  log_info(
      "serving addresses={} device={} engine=\"{}\" version={} slots={} threads={} store={} "
      "store_limit_bytes={} pid={}",
      addresses, arguments.device, engine_name, OUTBOARD_VERSION, options.settings.slots,
      arguments.threads > 0 ? arguments.threads
                            : static_cast<int>(std::thread::hardware_concurrency()),
      options.store.folder, options.store.limit_bytes, ::getpid());
  std::unique_ptr<serve::HttpDoor> http;
  if (!arguments.http.empty()) {
    OB_TRY(const wire::Endpoint endpoint, wire::parse_endpoint(arguments.http));
    OB_TRY(http, serve::HttpDoor::open(*server, endpoint));
    log_info("metrics url={}/metrics", http->url());
    OB_TRY(const bool local, wire::is_local(endpoint));
    if (!local)
      log_warn("whoever reaches the address reads the server's figures address={}", arguments.http);
  }
  if (!arguments.ready_file.empty())
    OB_CHECK_OK(
        write_file_atomically(arguments.ready_file, lines_of(server->addresses(), "\n") + "\n"));
  int signal = 0;
  ::sigwait(&signals, &signal);
  announcement.reset();
  drain(*server, signals, arguments.drain_timeout_s);
  if (!arguments.ready_file.empty()) ::unlink(arguments.ready_file.c_str());
  log_info("stopped runs={} signal={}", server->shared().statistics.runs.load(), signal);
  return {};
}

void add_options(CLI::App& verb, ServeArguments& a) {
  verb.add_option("--listen", a.listen,
                  "Where to listen: ADDR:PORT (port 0 takes a free one), [IPV6]:PORT or unix:PATH; "
                  "may be given several times")
      ->capture_default_str();
  verb.add_option("--store", a.store,
                  "The folder that keeps the models of clients; default "
                  "$XDG_CACHE_HOME/outboard/store or ~/.cache/outboard/store");
  verb.add_option("--store-limit", a.store_limit_bytes,
                  "How large the store may become, as 20GB or 500MiB; the least recently used "
                  "model goes first, never one in use")
      ->transform(CLI::AsSizeValue(true))
      ->capture_default_str();
  verb.add_option("--device", a.device, "The device that computes: cpu or cuda:N")
      ->capture_default_str();
  verb.add_option("--threads", a.threads,
                  "Threads that compute, shared by all sessions; 0 is one for each core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_flag("--spin", a.spin,
                "Let the engine's threads spin before they sleep: quicker single Runs of larger "
                "models where nothing else needs the cores");
  verb.add_flag("--no-shared-memory", a.no_shared_memory,
                "Send tensors through the socket also to clients of a unix socket, which otherwise "
                "share memory with the server");
  verb.add_option("--slots", a.slots,
                  "Runs that may compute at the same time, the others wait in the order of "
                  "arrival; 0 is one for each core of a cpu, and one for a cuda device")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--ort-library", a.ort_library,
                  "The library of ONNX Runtime; default $OUTBOARD_ORT_LIBRARY, else a wheel that "
                  "is installed, else the system's");
  verb.add_option("--ready-file", a.ready_file,
                  "A file that receives the real addresses, one a line, once clients can connect");
  verb.add_option("--max-connections", a.max_connections, "Connections at the same time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--drain-timeout", a.drain_timeout_s,
                  "Seconds that Runs under way may take after SIGTERM")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--http", a.http,
                  "Where to answer HTTP: ADDR:PORT with /metrics for Prometheus, /healthz and "
                  "/readyz (default: nowhere). Plain and without authentication");
  verb.add_option("--log", a.log_format,
                  "The log's lines: text, or json with a field for each value")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  verb.add_option("--log-level", a.log_level, "How much is logged to standard error")
      ->check(CLI::IsMember({"error", "warn", "info", "debug"}))
      ->capture_default_str();
  verb.add_flag(
      "--insecure", a.insecure,
      "Serve addresses that other machines can reach without authentication or encryption");
  verb.add_option("--state", a.state,
                  "The folder of the server's identity and tokens; default "
                  "$XDG_STATE_HOME/outboard or ~/.local/state/outboard");
  verb.add_option(
      "--certificate", a.certificate,
      "A certificate of your own (PEM, with its chain), instead of the identity that is "
      "made at the first start");
  verb.add_option("--key", a.key, "The certificate's key (PEM)");
  verb.add_option("--announce", a.announce,
                  "Tell machines nearby of this server (mDNS, by Avahi's daemon), by this name; "
                  "default: the host's. Needs an address that others can reach")
      ->expected(0, 1)
      ->type_name("[=NAME]");
  verb.add_option(
          "--peers", a.peers,
          "Servers (known names or HOST:PORT, with commas) that compute one inference "
          "together with this one, each a band of rows, when that is quicker; name on every "
          "server all others (docs/split.md)")
      ->delimiter(',');
  verb.add_option("--peers-tenant", a.peers_tenant,
                  "The tenant whose token the other servers show; they compute beside the device's "
                  "queue, others may not")
      ->capture_default_str();
  verb.add_option("--peers-gain", a.peers_gain,
                  "How many times as quick as this server alone a plan must be, measured, to be "
                  "used; 0: whatever it gains")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  verb.add_option("--peers-memory", a.peers_memory_bytes,
                  "How much memory, as 2GB, a part of another server's inference may take here; "
                  "default: no limit")
      ->transform(CLI::AsSizeValue(true));
  verb.add_option("--isolation", a.isolation,
                  "Whether a tenant's models are computed in a sandboxed process of their own: on, "
                  "off, or auto: for those who come from other machines")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  verb.add_option("--worker-memory", a.worker_memory_bytes,
                  "How much memory a worker process may take, as 8GB; 0 is three quarters of the "
                  "machine's")
      ->transform(CLI::AsSizeValue(true))
      ->capture_default_str();
  verb.add_option("--max-workers", a.max_workers, "Worker processes at the same time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--worker-idle", a.worker_idle_s,
                  "Seconds after which a worker process without an open model ends")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--open-limit", a.open_limit_s,
                  "Seconds that opening a model may take before its worker process is ended")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--run-limit", a.run_limit_s,
                  "Seconds that a Run may compute before its worker process is ended")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

}  // namespace

void add_serve(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<ServeArguments>();
  CLI::App* verb = app.add_subcommand(
      "serve", "Lend this machine's device to programs on other machines, until SIGTERM");
  add_options(*verb, *arguments);
  verb->callback([arguments, &exit_code] {
    if (auto served = serve(*arguments); !served) exit_code = report(served.error());
  });
}

}  // namespace outboard::cli
