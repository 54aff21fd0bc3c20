// SPDX-License-Identifier: Apache-2.0
// The addresses of a server's name, within a time limit. The system's resolver knows none that
// fits: beside a lost link it may wait for half a minute. So it works on a thread of ours, which
// nobody waits for any longer than they may, and what it found last is used again meanwhile.
//
// Thread-safe. After fork() the child must make another one. Errors: kTimeout: nothing was found in
// time; kInvalid: the name does not resolve.
#pragma once

#include <netdb.h>

#include <functional>
#include <memory>

#include "base/clock.h"
#include "base/result.h"

namespace outboard::wire {

struct Endpoint;
using Addresses = std::shared_ptr<const addrinfo>;  // a list, by ai_next

// Asks the system, for as long as it takes. `flags`: getaddrinfo()'s.
Result<Addresses> look_up(const Endpoint& endpoint, int flags);

class Resolver {
 public:
  explicit Resolver(const Endpoint& endpoint);
  explicit Resolver(std::function<Result<Addresses>()> look_up);  // for tests
  Result<Addresses> addresses(Deadline deadline);

 private:
  struct State;
  void start();
  const bool is_numeric_;  // needs nobody's help
  const std::function<Result<Addresses>()> look_up_;
  const std::shared_ptr<State> state_;  // the thread's, too
};

}  // namespace outboard::wire
