// SPDX-License-Identifier: Apache-2.0
#include "serve/server.h"

#include <fmt/ranges.h>
#include <sys/random.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"
#include "serve/worker/workers.h"

namespace outboard::serve {
namespace {

// Beyond the limit a few more threads tell clients so; beyond these, connections are just closed.
constexpr std::size_t kRefusingConnections = 64;

std::string random_id() {
  std::array<unsigned char, 8> raw{};
  OB_CHECK(::getrandom(raw.data(), raw.size(), 0) == static_cast<ssize_t>(raw.size()));
  return fmt::format("{:02x}", fmt::join(raw, ""));
}

}  // namespace

Server::Server(std::unique_ptr<engine::Engine> engine, std::unique_ptr<Store> store,
               ServerOptions options)
    : shared_(std::move(options.settings), std::move(engine), options.isolate,
              std::move(options.has_share), std::move(options.store), std::move(store),
              options.sessions, options.local_models, random_id()) {
  shared_.workers = options.workers;
  if (options.workers)
    shared_.tenants.on_weight(
        [workers = options.workers](const std::string& tenant, double weight) {
          workers->set_weight(tenant, weight);
        });
}

Result<std::unique_ptr<Server>> Server::start(std::unique_ptr<engine::Engine> engine,
                                              ServerOptions options) {
  OB_TRY(auto store, Store::open(options.store));
  const std::vector<wire::Endpoint> plain = options.listen;
  const std::optional<Security> security = std::move(options.security);
  std::unique_ptr<Server> server(
      new Server(std::move(engine), std::move(store), std::move(options)));
  if (security) OB_CHECK_OK(server->set_up_lobby(*security));
  OB_CHECK_OK(server->listen(plain, security ? security->listen : std::vector<wire::Endpoint>{}));
  return server;
}

Result<void> Server::set_up_lobby(const Security& security) {
  Lobby::Options options;
  OB_TRY(options.tls, wire::TlsContext::server(security.identity));
  options.time_limit = security.time_to_prove;
  tokens_ = std::make_unique<Tokens>(security.tokens_path);
  options.check = [this](Greeted& greeted, std::string_view token) -> Result<void> {
    OB_TRY(Proof proof, tokens_->check(token));
    greeted.token_id = std::move(proof.token_id);
    greeted.tenant = std::move(proof.tenant);
    return {};
  };
  options.leave = [this](std::unique_ptr<wire::Stream> stream, Greeted greeted) {
    // std::function wants a copy; the stream has none.
    auto held = std::make_shared<std::unique_ptr<wire::Stream>>(std::move(stream));
    start_peer([this, held, greeted = std::move(greeted)](std::uint64_t number) {
      serve_greeted(std::move(*held), greeted, number);
    });
  };
  options.every_second = [this] { drop_who_is_no_longer_admitted(); };
  lobby_ = std::make_unique<Lobby>(std::move(options));
  return {};
}

Result<void> Server::listen(const std::vector<wire::Endpoint>& plain,
                            const std::vector<wire::Endpoint>& secured) {
  const auto open = [this](const wire::Endpoint& endpoint) -> Result<void> {
    OB_TRY(auto listener, wire::listen_on(endpoint));
    addresses_.push_back(listener->local_endpoint());
    listeners_.push_back(std::move(listener));
    return {};
  };
  for (const wire::Endpoint& endpoint : plain) OB_CHECK_OK(open(endpoint));
  for (const wire::Endpoint& endpoint : secured) OB_CHECK_OK(open(endpoint));
  // Only when all addresses are there does it take clients.
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    wire::Listener& listener = *listeners_[i];
    std::function<Result<void>()> take = [this, &listener]() -> Result<void> {
      OB_TRY(auto stream, listener.accept());
      serve(std::move(stream));
      return {};
    };
    if (i >= plain.size())
      take = [this, &listener]() -> Result<void> {
        OB_TRY(const int fd, listener.accept_descriptor());
        lobby_->enter(fd);
        return {};
      };
    acceptors_.emplace_back([this, take = std::move(take)] { accept_from(take); });
  }
  return {};
}

Server::~Server() {
  shared_.draining = true;
  for (const auto& listener : listeners_) listener->shut_down();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    peer_ended_.notify_all();
  }
  for (std::thread& acceptor : acceptors_) acceptor.join();
  lobby_.reset();  // from now on nobody comes
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [peer, token] : peers_) peer->shut_down();
  }
  threads_.wait_for_all();
}

void Server::accept_from(const std::function<Result<void>()>& take) {
  for (;;) {
    const auto taken = take();
    if (taken) continue;
    if (taken.error().kind != ErrorKind::kOverloaded) return;
    // Out of descriptors: those go first that have proven nothing; else they come back when a
    // connection ends, or somebody else gives some up.
    log_warn("connection not accepted reason=\"{}\"", taken.error().message);
    if (lobby_) lobby_->make_room();
    std::unique_lock lock(mutex_);
    peer_ended_.wait_for(lock, std::chrono::milliseconds(lobby_ ? 10 : 100),
                         [&] { return stopping_; });
  }
}

void Server::serve(std::unique_ptr<wire::Stream> stream, Tenant& tenant) {
  auto held = std::make_shared<std::unique_ptr<wire::Stream>>(std::move(stream));
  start_peer([this, held, &tenant](std::uint64_t number) {
    serve_peer(std::move(*held), tenant, number, nullptr);
  });
}

void Server::start_peer(std::function<void(std::uint64_t number)> body) {
  const std::uint64_t number = next_number_.fetch_add(1);
  shared_.statistics.connections_total.fetch_add(1);
  if (threads_.running() >= shared_.settings.max_connections + kRefusingConnections) return;
  if (auto started = threads_.start([body = std::move(body), number] { body(number); }); !started)
    log_warn("connection dropped connection={} reason=\"{}\"", number, started.error().message);
}

void Server::serve_greeted(std::unique_ptr<wire::Stream> stream, const Greeted& greeted,
                           std::uint64_t number) {
  const auto tenant = shared_.tenants.get(greeted.tenant);
  if (tenant) return serve_peer(std::move(stream), **tenant, number, &greeted);
  log_error("tenant not opened tenant={} reason=\"{}\"", greeted.tenant.name,
            tenant.error().message);
  wire::Connection connection(std::move(stream));
  connection.stream().set_stall_timeout(limits::kStallTimeout);
  const Error told{ErrorKind::kInternal, "the server cannot open the tenant's store", 0};
  (void)connection.send({.kind = wire::FrameKind::kError, .request_id = greeted.request_id},
                        wire::encode(told));
}

void Server::serve_peer(std::unique_ptr<wire::Stream> stream, Tenant& tenant, std::uint64_t number,
                        const Greeted* greeted) {
  auto& connections = shared_.statistics.connections;
  const std::uint64_t limit = shared_.settings.max_connections;
  const Error full{ErrorKind::kOverloaded,
                   fmt::format("the server has as many connections as it may ({})", limit), 0};
  const bool is_full = connections.fetch_add(1) >= limit;
  // One tenant alone does not fill the server.
  const auto admitted =
      tenant.connection_begins(tenant.is_local() ? limit : std::max<std::uint64_t>(1, limit / 2));
  const Error* refusal = is_full ? &full : admitted ? nullptr : &admitted.error();
  {
    Peer peer(shared_, tenant, std::move(stream), number);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) peer.shut_down();
      peers_.emplace(&peer, greeted != nullptr ? greeted->token_id : "");
    }
    peer.serve(refusal, greeted);
    const std::lock_guard lock(mutex_);
    peers_.erase(&peer);
  }
  connections.fetch_sub(1);
  if (admitted) tenant.connection_ended();
  peer_ended_.notify_all();
}

// A token that was revoked, or has expired, ends the connections that it opened.
void Server::drop_who_is_no_longer_admitted() {
  if (tokens_->refresh()) {
    for (const TenantSpec& spec : tokens_->tenants()) shared_.tenants.update(spec);
  }
  const std::lock_guard lock(mutex_);
  for (const auto& [peer, token] : peers_)
    if (!token.empty() && !tokens_->admits(token)) peer->shut_down();
}

bool Server::drain(std::chrono::nanoseconds timeout) {
  shared_.draining = true;
  std::unique_lock lock(shared_.drain_mutex);
  return shared_.drained.wait_for(lock, timeout, [&] { return shared_.statistics.in_flight == 0; });
}

}  // namespace outboard::serve
