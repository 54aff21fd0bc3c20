// SPDX-License-Identifier: Apache-2.0
#include "serve/server.h"

#include <fmt/ranges.h>
#include <sys/random.h>

#include <array>

#include "base/check.h"
#include "base/log.h"

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
    : shared_(std::move(options.settings), std::move(engine), std::move(options.store),
              std::move(store), options.sessions, random_id()) {}

Result<std::unique_ptr<Server>> Server::start(std::unique_ptr<engine::Engine> engine,
                                              ServerOptions options) {
  OB_TRY(auto store, Store::open(options.store));
  const std::vector<wire::Endpoint> endpoints = options.listen;
  std::unique_ptr<Server> server(
      new Server(std::move(engine), std::move(store), std::move(options)));
  OB_CHECK_OK(server->listen(endpoints));
  return server;
}

Result<void> Server::listen(const std::vector<wire::Endpoint>& endpoints) {
  for (const wire::Endpoint& endpoint : endpoints) {
    OB_TRY(auto listener, wire::listen_on(endpoint));
    addresses_.push_back(listener->local_endpoint());
    listeners_.push_back(std::move(listener));
  }
  // Only when all addresses are there does it take clients.
  for (const auto& listener : listeners_)
    acceptors_.emplace_back([this, &listener] { accept_from(*listener); });
  return {};
}

Server::~Server() {
  shared_.draining = true;
  for (const auto& listener : listeners_) listener->shut_down();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    peer_ended_.notify_all();
    for (Peer* peer : peers_) peer->shut_down();
  }
  for (std::thread& acceptor : acceptors_) acceptor.join();
  threads_.wait_for_all();
}

void Server::accept_from(wire::Listener& listener) {
  for (;;) {
    auto stream = listener.accept();
    if (stream) {
      serve(std::move(*stream));
      continue;
    }
    if (stream.error().kind != ErrorKind::kOverloaded) return;
    // Out of descriptors: they come back when a connection ends, or somebody else gives some up.
    log_warn("connection not accepted reason=\"{}\"", stream.error().message);
    std::unique_lock lock(mutex_);
    peer_ended_.wait_for(lock, std::chrono::milliseconds(100), [&] { return stopping_; });
  }
}

void Server::serve(std::unique_ptr<wire::Stream> stream, Tenant& tenant) {
  const std::uint64_t number = next_number_.fetch_add(1);
  shared_.statistics.connections_total.fetch_add(1);
  if (threads_.running() >= shared_.settings.max_connections + kRefusingConnections) return;
  // std::function wants a copy; the stream has none.
  auto held = std::make_shared<std::unique_ptr<wire::Stream>>(std::move(stream));
  if (auto started = threads_.start(
          [this, held, &tenant, number] { serve_peer(std::move(*held), tenant, number); });
      !started)
    log_warn("connection dropped connection={} reason=\"{}\"", number, started.error().message);
}

void Server::serve_peer(std::unique_ptr<wire::Stream> stream, Tenant& tenant,
                        std::uint64_t number) {
  auto& connections = shared_.statistics.connections;
  const std::uint64_t limit = shared_.settings.max_connections;
  const Error full{ErrorKind::kOverloaded,
                   fmt::format("the server has as many connections as it may ({})", limit), 0};
  const bool is_full = connections.fetch_add(1) >= limit;
  const auto admitted = tenant.connection_begins(limit);
  const Error* refusal = is_full ? &full : admitted ? nullptr : &admitted.error();
  {
    Peer peer(shared_, tenant, std::move(stream), number);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) peer.shut_down();
      peers_.insert(&peer);
    }
    peer.serve(refusal);
    const std::lock_guard lock(mutex_);
    peers_.erase(&peer);
  }
  connections.fetch_sub(1);
  if (admitted) tenant.connection_ended();
  peer_ended_.notify_all();
}

bool Server::drain(std::chrono::nanoseconds timeout) {
  shared_.draining = true;
  std::unique_lock lock(shared_.drain_mutex);
  return shared_.drained.wait_for(lock, timeout, [&] { return shared_.statistics.in_flight == 0; });
}

}  // namespace outboard::serve
