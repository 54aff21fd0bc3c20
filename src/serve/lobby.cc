// SPDX-License-Identifier: Apache-2.0
#include "serve/lobby.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>

#include "base/check.h"
#include "base/log.h"
#include "wire/transport/socket.h"

namespace outboard::serve {
namespace {

constexpr int kEvents = 256;
constexpr std::size_t kRoomAtOnce = 64;

Nanoseconds now() { return Clock::monotonic().now(); }

}  // namespace

struct Lobby::Guest {
  Guest(int socket, Greeting greeting_, Nanoseconds end)
      : fd(socket), greeting(std::move(greeting_)), until(end) {}
  ~Guest() {
    if (fd >= 0) ::close(fd);
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  int fd;
  Greeting greeting;
  Nanoseconds until;
  bool is_refused = false;  // told so; what still comes is passed over
  Guests::iterator self;
};

Lobby::Lobby(Options options)
    : options_(std::move(options)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  OB_CHECK(epoll_ >= 0 && wake_ >= 0);
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  OB_CHECK(::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) == 0);
  thread_ = std::thread([this] { serve(); });
}

Lobby::~Lobby() {
  stopping_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(wake_, &one, sizeof one);
  thread_.join();
  for (const int fd : newcomers_) ::close(fd);
  ::close(epoll_);
  ::close(wake_);
}

void Lobby::enter(int fd) {
  {
    const std::lock_guard lock(mutex_);
    newcomers_.push_back(fd);
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(wake_, &one, sizeof one);
}

void Lobby::make_room() {
  room_wanted_ = kRoomAtOnce;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(wake_, &one, sizeof one);
}

void Lobby::serve() {
  std::array<epoll_event, kEvents> events;
  Nanoseconds next_second = now() + std::chrono::seconds(1);
  while (!stopping_) {
    // Between the seconds there is nothing that a time limit of seconds would feel.
    const int wait_ms =
        Deadline{guests_.empty() ? next_second : std::min(next_second, guests_.front().until)}
            .poll_timeout_ms();
    const int count = ::epoll_wait(epoll_, events.data(), kEvents, wait_ms);
    bool has_newcomers = false;
    for (int i = 0; i < count; ++i) {
      auto* guest = static_cast<Guest*>(events[static_cast<std::size_t>(i)].data.ptr);
      if (guest == nullptr)
        has_newcomers = true;
      else
        look_at(guest->self);
    }
    // After the others: a newcomer may take the place of one of them.
    if (has_newcomers) take_newcomers();
    while (!guests_.empty() && guests_.front().until <= now()) {
      turned_away_.fetch_add(1);
      close(guests_.begin());
    }
    if (now() >= next_second) {
      next_second = now() + std::chrono::seconds(1);
      if (options_.every_second) options_.every_second();
    }
  }
  guests_.clear();
  waiting_ = 0;
}

void Lobby::take_newcomers() {
  std::uint64_t drained = 0;
  [[maybe_unused]] const auto n = ::read(wake_, &drained, sizeof drained);
  for (std::size_t room = room_wanted_.exchange(0); room > 0 && !guests_.empty(); --room) {
    turned_away_.fetch_add(1);
    close(guests_.begin());
  }
  std::vector<int> newcomers;
  {
    const std::lock_guard lock(mutex_);
    newcomers.swap(newcomers_);
  }
  for (const int fd : newcomers) add(fd);
}

void Lobby::add(int fd) {
  auto greeting = Greeting::make(options_.tls);
  if (!greeting) {
    log_warn("connection dropped reason=\"{}\"", greeting.error().message);
    ::close(fd);
    return;
  }
  if (guests_.size() >= options_.most_waiting) {
    turned_away_.fetch_add(1);
    close(guests_.begin());
  }
  const auto guest =
      guests_.emplace(guests_.end(), fd, std::move(*greeting), now() + options_.time_limit);
  guest->self = guest;
  waiting_ = guests_.size();
  epoll_event event{.events = EPOLLIN, .data = {.ptr = &*guest}};
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) close(guest);
}

void Lobby::close(Guests::iterator guest) {
  guests_.erase(guest);  // a closed descriptor leaves epoll by itself
  waiting_ = guests_.size();
}

bool Lobby::send_output(Guest& guest) {
  std::vector<std::byte>& output = guest.greeting.output();
  if (output.empty()) return true;
  // A fresh socket has room for all that is said here; one that has none is not worth waiting for.
  const ssize_t n = ::send(guest.fd, output.data(), output.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  const bool all = n == static_cast<ssize_t>(output.size());
  output.clear();
  return all;
}

// True: the hello is complete.
Result<bool> Lobby::receive(Guest& guest) {
  for (;;) {
    const std::span<std::byte> space = guest.greeting.space();
    const ssize_t n = ::recv(guest.fd, space.data(), space.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (n <= 0) return error(ErrorKind::kDisconnected, "peer closed the connection");
    OB_TRY(const bool is_complete, guest.greeting.received(static_cast<std::size_t>(n)));
    if (!is_complete && !send_output(guest))
      return error(ErrorKind::kDisconnected, "peer takes nothing");
    if (is_complete) return true;
  }
}

void Lobby::look_at(Guests::iterator guest) {
  if (guest->is_refused) {
    std::array<std::byte, 4096> sink;
    const ssize_t n = ::recv(guest->fd, sink.data(), sink.size(), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) close(guest);
    return;
  }
  try {
    const auto complete = receive(*guest);
    if (!complete) return refuse(guest, complete.error());
    if (!*complete) return;
    Greeted greeted{guest->greeting.request_id(), guest->greeting.hello(), {}, {}};
    if (auto known = options_.check(greeted, guest->greeting.token()); !known)
      return refuse(guest, known.error());
    std::erase_if(greeted.hello.features, [](const wire::Feature& feature) {
      return feature.number == wire::kFeatureAuthentication;
    });
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, guest->fd, nullptr);
    auto stream = wire::make_tls_stream(wire::make_socket_stream(std::exchange(guest->fd, -1)),
                                        guest->greeting.take_session());
    close(guest);
    options_.leave(std::move(stream), std::move(greeted));
  } catch (const std::exception& e) {  // memory, say
    log_error("connection failed reason=\"{}\"", e.what());
    close(guest);
  }
}

// Says why, where there is a way to, and leaves the peer the rest of its time to read it.
void Lobby::refuse(Guests::iterator guest, const Error& error) {
  log_debug("connection refused reason=\"{}\"", error.message);
  turned_away_.fetch_add(1);
  if (error.kind == ErrorKind::kDisconnected) return close(guest);
  guest->greeting.refuse(error);
  if (!send_output(*guest)) return close(guest);
  ::shutdown(guest->fd, SHUT_WR);
  guest->is_refused = true;
}

}  // namespace outboard::serve
