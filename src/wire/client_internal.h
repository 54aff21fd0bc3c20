// SPDX-License-Identifier: Apache-2.0
// What client.cc (connections, control requests, uploads) and remote_session.cc (sessions, Runs)
// share.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <type_traits>
#include <utility>

#include "wire/client.h"
#include "wire/coded_link.h"

namespace outboard::wire {

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
  std::optional<std::uint64_t> moved_bytes;  // the connection's, before a large request left
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

template <typename Attempt>
auto Client::with_connection(const Attempt& attempt) -> std::invoke_result_t<Attempt, Pooled&> {
  for (bool fresh = false;; fresh = true) {
    OB_TRY(Lease lease, acquire(fresh));
    auto reply = attempt(*lease.held);
    if (reply || std::exchange(lease->reported_error, false)) {
      lease.in_step();
      return reply;
    }
    if (!lease->from_pool || reply.error().kind != ErrorKind::kDisconnected) return reply;
  }
}

}  // namespace outboard::wire
