// SPDX-License-Identifier: Apache-2.0
// The link between simulated clients and a server: in-process pairs, and what goes wrong on them.
//
// A fault hits a whole link (Trouble) or one call: every connect, send and receive of a client is
// counted, and a Strike names one of them by its number. After it `struck()` is true.
// Thread-safe, inside simulate().
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "tests/faults/sim/scheduler.h"
#include "wire/transport/stream.h"

namespace outboard::sim {

enum class Call : std::uint8_t { kConnect, kSend, kReceive };

// What happens at the call with the number `at` (from 0) of its kind.
struct Strike {
  enum class Effect : std::uint8_t {
    kNothing,  // only told: struck()
    kClose,    // the connection closes before the call (a connect is refused)
    kPartial,  // some of the bytes pass, then the connection closes
  };
  Call call = Call::kSend;
  std::uint64_t at = 0;
  Effect effect = Effect::kNothing;
};

enum class Trouble : std::uint8_t {
  kNone,
  kRefused,  // nobody listens: connections are refused; those that are open are closed
  kSilent,   // nothing passes in either direction, and nobody is told
  kTrickle,  // a few bytes every tenth of a second
};

class FaultyStream;

class Network {
 public:
  // `accept` takes the server's end of a connection, and is called as one of `server`'s threads.
  Network(Group server, std::function<void(std::unique_ptr<wire::Stream>)> accept,
          std::uint64_t seed);
  ~Network();

  // What a client's ClientOptions::connect calls.
  Result<std::unique_ptr<wire::Stream>> connect(std::chrono::milliseconds timeout);

  void set_strike(const Strike& strike);
  bool struck() const;
  void set_trouble(Trouble trouble);
  // Of each connection, each way, from now on, also for what is under way; 0: no limit.
  void set_rate(std::size_t bytes_per_s);
  // Open connections pass nothing any more, without a word to either side; new ones work.
  void forget_connections();
  // The server's ends close, as when the kernel of a killed client does.
  void close_server_ends();
  // As long as the link is silent, a client's close does not reach the server; the server's own
  // keep-alive ends those connections when called.
  void expire_silent();

  std::uint64_t connects() const;
  std::size_t open_streams() const;

 private:
  friend class FaultyStream;
  struct Shared;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace outboard::sim
