// SPDX-License-Identifier: Apache-2.0
// What client.cc (connections, control requests, uploads) and remote_session.cc (sessions, Runs)
// share.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "wire/client.h"
#include "wire/coded_link.h"

namespace outboard::wire {

inline Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

struct Client::Pooled {
  explicit Pooled(std::unique_ptr<Stream> stream) : connection(std::move(stream)) {}
  Connection connection;
  std::unique_ptr<SharedLink> shared;  // where both sides agreed on it
  std::unique_ptr<CodedLink> coded;    // likewise
  std::set<std::uint32_t> open_handles;
  std::uint64_t next_request = 1;  // of this connection, set when it is made
  // Requests that were sent ahead of the one whose reply is awaited; 0: none.
  std::uint64_t hello_ahead = 0, open_ahead = 0;
  std::uint64_t counted_sent = 0, counted_received = 0;  // already in the client's counters
  CancelToken* token = nullptr;                          // of the Run that is under way
  std::optional<std::uint64_t> moved_bytes;  // Connection's, before its large request left
  bool from_pool = false;                    // may have gone stale since its last use
  bool reported_error = false;  // the last exchange failed, but left the connection in step
};

// Holds a connection for one exchange. `in_step()` gives it back to the pool, else it is dropped.
struct Client::Lease {
  Lease(Client& owner, std::unique_ptr<Pooled> pooled) : client(&owner), held(std::move(pooled)) {}
  Lease(Lease&& other) noexcept = default;
  Lease& operator=(Lease&& other) noexcept = default;
  ~Lease() {
    if (held) client->count_frames(*held);
  }
  void in_step() { client->release(std::move(held)); }
  Pooled* operator->() const { return held.get(); }

  Client* client;
  std::unique_ptr<Pooled> held;
};

}  // namespace outboard::wire
