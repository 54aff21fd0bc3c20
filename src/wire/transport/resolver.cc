// SPDX-License-Identifier: Apache-2.0
#include "wire/transport/resolver.h"

#include <sys/socket.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

#include "base/background.h"
#include "wire/transport/endpoint.h"

namespace outboard::wire {

Result<Addresses> look_up(const Endpoint& endpoint, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* list = nullptr;
  const std::string port = std::to_string(endpoint.port);
  if (const int code = ::getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &list); code != 0)
    return error(ErrorKind::kInvalid, "host name ({}) does not resolve: {}", endpoint.host,
                 ::gai_strerror(code));
  return Addresses(list, [](const addrinfo* a) { ::freeaddrinfo(const_cast<addrinfo*>(a)); });
}

// One lookup at a time, which all wait for.
struct Resolver::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool at_work = false;
  std::uint64_t ended = 0;  // lookups so far
  Result<Addresses> latest = Addresses();
  Addresses found;  // what was found last
};

Resolver::Resolver(const Endpoint& endpoint)
    : is_numeric_(look_up(endpoint, AI_NUMERICHOST).has_value()),
      look_up_([endpoint] { return look_up(endpoint, 0); }),
      state_(std::make_shared<State>()) {}

Resolver::Resolver(std::function<Result<Addresses>()> look_up)
    : is_numeric_(false), look_up_(std::move(look_up)), state_(std::make_shared<State>()) {}

void Resolver::start() {
  state_->at_work = true;
  start_in_background([state = state_, look_up = look_up_] {
    auto result = look_up();
    const std::lock_guard lock(state->mutex);
    state->at_work = false;
    ++state->ended;
    if (result) state->found = *result;
    state->latest = std::move(result);
    state->changed.notify_all();
  });
}

Result<Addresses> Resolver::addresses(Deadline deadline) {
  if (is_numeric_) return look_up_();
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  const std::uint64_t before = s.ended;
  if (!s.at_work) start();
  const auto has_ended = [&] { return s.ended != before; };
  if (deadline.is_never()) {
    s.changed.wait(lock, has_ended);
  } else {
    // Half of the time is left to connect to what was found before.
    const Nanoseconds left = deadline.at - Clock::monotonic().now();
    s.changed.wait_for(lock, s.found == nullptr ? left : left / 2, has_ended);
  }
  if (has_ended() && s.latest) return s.latest;
  if (s.found != nullptr) return s.found;
  if (has_ended()) return s.latest;
  return error(ErrorKind::kTimeout, "its host name did not resolve in time");
}

}  // namespace outboard::wire
