// SPDX-License-Identifier: Apache-2.0
// The server: listens, gives every connection a thread, drains.
//
//   OB_TRY(auto server, Server::start(std::move(engine), options));
//   server->addresses();                       // where it really listens
//   server->drain(std::chrono::seconds(30));   // returns when no Run is under way any more
//
// Thread-safe. Destruction ends all connections and joins all threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "engine/engine.h"
#include "serve/lobby.h"
#include "serve/peer.h"
#include "serve/shared.h"
#include "serve/threads.h"
#include "serve/tokens.h"
#include "wire/transport/endpoint.h"
#include "wire/transport/stream.h"

namespace outboard::serve {

class Workers;

// Who the server is, and whom it admits, beyond this machine.
struct Security {
  std::vector<wire::Endpoint> listen;  // with TLS, and only for who has a token
  wire::TlsIdentity identity;
  std::string tokens_path;
  std::chrono::milliseconds time_to_prove = limits::kHandshakeTimeout;  // a token
};

struct ServerOptions {
  std::vector<wire::Endpoint> listen;  // plain; may be empty: connections then come by serve()
  std::optional<Security> security;
  Store::Options store;
  SessionPool::Options sessions;
  Settings settings;
  std::shared_ptr<Workers> workers;     // what `isolate` uses, for the status; may be empty
  EngineOf isolate;                     // empty: all tenants share the server's engine
  HasShare has_share;                   // empty: all wait for the device in one queue
  ModelSource* local_models = nullptr;  // of the tenant "local", instead of the store; borrowed
};

class Server {
 public:
  static Result<std::unique_ptr<Server>> start(std::unique_ptr<engine::Engine> engine,
                                               ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  const std::vector<wire::Endpoint>& addresses() const { return addresses_; }
  // A connection over TLS (a socket) that has proven nothing yet; takes the descriptor over.
  void enter(int fd) { lobby_->enter(fd); }
  const Lobby& lobby() const { return *lobby_; }
  // A connection that came another way (the in-process pair), of the tenant "local" or another.
  // Returns at once.
  void serve(std::unique_ptr<wire::Stream> stream) { serve(std::move(stream), tenants().local()); }
  void serve(std::unique_ptr<wire::Stream> stream, Tenant& tenant);
  Tenants& tenants() { return shared_.tenants; }

  // From now on new Runs, sessions and uploads are told to go elsewhere. Waits for those under
  // way; false when they have not ended within the time.
  bool drain(std::chrono::nanoseconds timeout);
  bool is_draining() const { return shared_.draining; }

  std::string status() const { return status_json(shared_, shared_.tenants.local()); }
  const Shared& shared() const { return shared_; }
  std::size_t connection_threads() const { return threads_.running(); }

 private:
  Server(std::unique_ptr<engine::Engine> engine, std::unique_ptr<Store> store,
         ServerOptions options);
  Result<void> set_up_lobby(const Security& security);
  Result<void> listen(const std::vector<wire::Endpoint>& plain,
                      const std::vector<wire::Endpoint>& secured);
  // One listener's thread; `take` accepts one connection.
  void accept_from(const std::function<Result<void>()>& take);
  void start_peer(std::function<void(std::uint64_t number)> body);
  void serve_greeted(std::unique_ptr<wire::Stream> stream, const Greeted& greeted,
                     std::uint64_t number);
  void serve_peer(std::unique_ptr<wire::Stream> stream, Tenant& tenant, std::uint64_t number,
                  const Greeted* greeted);
  void drop_who_is_no_longer_admitted();

  Shared shared_;
  std::vector<std::unique_ptr<wire::Listener>> listeners_;
  std::vector<wire::Endpoint> addresses_;
  std::mutex mutex_;
  std::condition_variable peer_ended_;
  std::map<Peer*, std::string> peers_;  // and their tokens' ids; "": none
  bool stopping_ = false;
  std::atomic<std::uint64_t> next_number_{1};
  Threads threads_;
  std::unique_ptr<Tokens> tokens_;
  std::unique_ptr<Lobby> lobby_;
  std::vector<std::thread> acceptors_;
};

}  // namespace outboard::serve
