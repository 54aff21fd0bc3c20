// SPDX-License-Identifier: Apache-2.0
// A simulated world: a real server with an engine that computes affine maps, and processes with the
// interposer's real Process, ServerLink, Session and answer(), between them a Network.
//
// A model is "affine SCALE OFFSET REMOTE_US LOCAL_US": each element of the output is SCALE * x +
// OFFSET, and takes so long there and here. Every Run has inputs of its own, so that a reply of any
// other Run is a wrong result. Used inside simulate(); each object by one thread at a time but for
// ClientProcess::run().
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "intercept/common/process.h"
#include "intercept/common/run.h"
#include "intercept/common/session.h"
#include "serve/server.h"
#include "tests/faults/sim/network.h"
#include "tests/faults/sim/scheduler.h"

namespace outboard::sim {

inline constexpr Group kTest = 0, kServer = 1, kFirstClient = 2;

struct Affine {
  float scale = 0, offset = 0;
  std::chrono::microseconds remote{}, local{};
  std::string text() const;
  static Affine parse(const std::string& text);
  float operator()(float x) const { return scale * x + offset; }
};

// What the server computes with.
struct EngineState {
  std::atomic<bool> short_of_memory{false};  // opens no model
  std::atomic<int> alive{0};                 // sessions
  std::atomic<bool> lies{false};             // the last element has the other sign, less one
  std::atomic<int> computing{0};             // Runs inside the engine
};

// A server that can be killed and started again, with or without what it stored.
class ServerProcess {
 public:
  ServerProcess(const std::string& folder, std::uint64_t store_limit_bytes);
  ~ServerProcess();
  void start(std::uint64_t store_limit_bytes);
  void kill();
  void empty_store();
  void accept(std::unique_ptr<wire::Stream> stream);
  const serve::Shared& shared() const { return server_->shared(); }
  EngineState& engine() { return *engine_; }

 private:
  const std::string folder_;
  const std::shared_ptr<EngineState> engine_;
  std::unique_ptr<serve::Server> server_;
};

struct ClientStatistics {
  std::atomic<std::uint64_t> runs{0}, failed{0}, wrong{0};
  std::atomic<std::int64_t> longest_ns{0};
};

// A process under `outboard run` with one session, as `create_session()` would make it.
class ClientProcess {
 public:
  ClientProcess(Group group, Network& network, const Affine& model, intercept::Config config);
  ~ClientProcess();

  // Starts threads that Run again and again with a pause of up to `pause` until stop().
  void start(std::size_t threads, std::chrono::milliseconds pause, std::uint64_t seed);
  void stop();
  // Inputs of Runs from now on have so many elements; 1 to 64 otherwise.
  void set_elements(std::size_t least, std::size_t most) {
    least_elements_ = least;
    most_elements_ = most;
  }
  // Ends what it does in the background and forgets the session; false: threads are left.
  bool end();
  // From now on it is a child of itself: another process with the same session, as after fork().
  void fork();

  ClientStatistics& statistics() { return statistics_; }
  std::uint64_t server_runs() const {
    return process().links().empty() ? 0 : figures().server_runs;
  }
  intercept::AccountFigures figures() const;
  intercept::Process& process() const { return *processes_.back(); }
  Group group() const { return group_; }

 private:
  void run_once(Random& random);
  void work(std::uint64_t seed, std::chrono::milliseconds pause);

  const Group group_;
  Network& network_;
  const Affine model_;
  const intercept::Config config_;
  std::vector<std::unique_ptr<intercept::Process>> processes_;  // the last one is current
  std::shared_ptr<intercept::Session> session_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> least_elements_{1}, most_elements_{64};
  ClientStatistics statistics_;
};

// Which Process is current, by group; on_group_switch() asks it.
void set_process_of(Group group, intercept::Process* process);
void install_processes();

}  // namespace outboard::sim
