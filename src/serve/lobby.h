// SPDX-License-Identifier: Apache-2.0
// Where connections from beyond this machine wait until they have proven a token: one thread for
// all of them, a few tens of KiB and five seconds for each, and a limit for their number. Who comes
// when it is full takes the place of whoever has waited longest, so a crowd that says nothing keeps
// nobody out who speaks at once.
//
// Thread-safe. Destruction closes all that wait.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/limits.h"
#include "base/result.h"
#include "serve/greeting.h"
#include "serve/tenant.h"
#include "wire/transport/stream.h"
#include "wire/transport/tls.h"

namespace outboard::serve {

// A hello that was read before its connection got a thread.
struct Greeted {
  std::uint64_t request_id = 0;
  wire::Hello hello;
  std::string token_id;
  TenantSpec tenant;
};

class Lobby {
 public:
  struct Options {
    std::shared_ptr<const wire::TlsContext> tls;
    std::size_t most_waiting = 4096;
    std::chrono::milliseconds time_limit = limits::kHandshakeTimeout;
    // Who shows this token: an error is its answer. Called on the lobby's thread, quick.
    std::function<Result<void>(Greeted&, std::string_view token)> check;
    // The connection is proven, and leaves. The same thread.
    std::function<void(std::unique_ptr<wire::Stream>, Greeted)> leave;
    std::function<void()> every_second;
  };
  explicit Lobby(Options options);
  ~Lobby();
  Lobby(const Lobby&) = delete;
  Lobby& operator=(const Lobby&) = delete;

  void enter(int fd);  // takes the descriptor over
  // Closes some that have waited longest: descriptors are short.
  void make_room();
  std::size_t waiting() const { return waiting_; }
  std::uint64_t turned_away() const { return turned_away_; }  // without a token, since the start

 private:
  struct Guest;
  using Guests = std::list<Guest>;

  void serve();
  void take_newcomers();
  void add(int fd);
  void look_at(Guests::iterator guest);
  Result<bool> receive(Guest& guest);
  void refuse(Guests::iterator guest, const Error& error);
  void close(Guests::iterator guest);
  static bool send_output(Guest& guest);

  const Options options_;
  const int epoll_, wake_;
  std::mutex mutex_;
  std::vector<int> newcomers_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> waiting_{0}, room_wanted_{0};
  std::atomic<std::uint64_t> turned_away_{0};
  Guests guests_;  // in the order of arrival; the lobby's thread alone
  std::thread thread_;
};

}  // namespace outboard::serve
