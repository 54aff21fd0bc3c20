// SPDX-License-Identifier: Apache-2.0
// A TCP relay that plays the part of a link: it delays, and on command it stalls, trickles, cuts
// and resets. Part of the test bed (tests/net/bed.py); the rate of the link is `tc tbf`'s, not its
// own.
//
//   net_relay LISTEN_IP TARGET_IP:PORT CONTROL_SOCKET
//
// Prints the port that it listens on. The control socket is a unix stream socket: one command a
// line, one line as answer ("ok ..." or "error ..."). DIRECTION is up (towards the target), down or
// both.
//
//   delay US                         one way, of what is read from now on
//   rate DIRECTION BYTES_PER_S       slower than the link itself, 0: as fast as it comes
//   stall DIRECTION on|off           holds bytes; they go on afterwards, in order
//   cut                              nothing passes, new connections included; neither end is told
//   restore                          new connections pass again; those from before the end of the
//   cut are reset after DIRECTION BYTES cut|drop|reset   once, after exactly so many bytes more:
//   the link is cut; or
//                                    that connection passes nothing any more; or both its ends are
//                                    reset
//   reset                            resets all connections
//   target IP:PORT                   where new connections go from now on
//   stats                            connections open, accepted in all, bytes up, bytes down
//
// One thread. A chunk that was read leaves when its time has come; a queue holds what the longest
// delay needs at 1.2 Gbps, then the reading end waits, as a full link would have it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <list>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kChunkBytes = 64 << 10;
constexpr double kFastestBytesPerNs = 0.15;
enum Direction : int { kUp = 0, kDown = 1 };

std::int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

struct Chunk {
  std::int64_t due_ns;
  std::vector<char> data;
  std::size_t sent = 0;
};

// One direction of one connection.
struct Pipe {
  std::deque<Chunk> chunks;
  std::size_t queued_bytes = 0;
  std::int64_t free_at_ns = 0;  // when a limited rate lets the next chunk begin
  bool read_end = false, write_end = false;
  bool blocked = false;  // the receiver's window is full
};

struct Relayed {
  std::array<int, 2> fds{
      -1, -1};  // [kUp] the client's socket: up is read from it; [kDown] the target's
  std::array<Pipe, 2> pipes;
  bool connected = false, dead = false, over = false;
};

struct Behaviour {
  std::int64_t delay_ns = 0;
  std::array<double, 2> rate_bytes_per_s{0, 0};
  std::array<bool, 2> stalled{false, false};
  bool cut = false;
  std::array<std::optional<std::uint64_t>, 2> bytes_until;  // `after`
  std::array<std::string, 2> then;
};

class Relay {
 public:
  Relay(int listener, int control, sockaddr_in target);
  void run();

 private:
  void accept_one();
  void read_from(Relayed& c, Direction d, std::int64_t now);
  void write_due(Relayed& c, Direction d, std::int64_t now);
  void spring(Relayed& c, Direction d);
  void watch(Relayed& c);
  void reset(Relayed& c);
  std::size_t capacity(Direction d) const;
  std::int64_t next_due(std::int64_t now) const;
  std::string obey(const std::string& line);
  void converse(int fd);

  int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  int listener_, control_;
  sockaddr_in target_;
  Behaviour behaviour_;
  std::list<Relayed> connections_;
  std::uint64_t accepted_ = 0;
  std::array<std::uint64_t, 2> bytes_{0, 0};
};

void add(int epoll, int fd, void* data, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = data;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

Relay::Relay(int listener, int control, sockaddr_in target)
    : listener_(listener), control_(control), target_(target) {
  add(epoll_, listener_, &listener_, EPOLLIN);
  add(epoll_, control_, &control_, EPOLLIN);
}

std::size_t Relay::capacity(Direction d) const {
  const double fastest = behaviour_.rate_bytes_per_s[d] > 0 ? behaviour_.rate_bytes_per_s[d] / 1e9
                                                            : kFastestBytesPerNs;
  const auto in_flight =
      static_cast<std::size_t>(fastest * static_cast<double>(behaviour_.delay_ns));
  return in_flight + (behaviour_.rate_bytes_per_s[d] > 0 ? 1 : 4 * kChunkBytes);
}

void Relay::accept_one() {
  const int client = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client < 0) return;
  const int target = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int one = 1;
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(target, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  ++accepted_;
  connections_.emplace_back().fds = {client, target};
  Relayed& c = connections_.back();
  if (connect(target, reinterpret_cast<sockaddr*>(&target_), sizeof target_) < 0 &&
      errno != EINPROGRESS) {
    reset(c);
    return;
  }
  add(epoll_, client, &c, 0);
  add(epoll_, target, &c, EPOLLOUT);
}

// What each socket of a connection is waited for.
void Relay::watch(Relayed& c) {
  if (c.over) return;
  for (const Direction d : {kUp, kDown}) {
    const Pipe& in = c.pipes[d];
    const Pipe& out = c.pipes[1 - d];
    epoll_event event{};
    event.data.ptr = &c;
    const bool passes = !c.dead && !behaviour_.cut;
    if (passes && !behaviour_.stalled[d] && !in.read_end && in.queued_bytes < capacity(d) &&
        c.connected)
      event.events |= EPOLLIN;
    if (passes && (out.blocked || (d == kDown && !c.connected))) event.events |= EPOLLOUT;
    // A hang-up is always reported: a socket of which nothing is wanted is taken out.
    epoll_ctl(epoll_, EPOLL_CTL_DEL, c.fds[d], nullptr);
    if (event.events != 0) epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fds[d], &event);
  }
}

void Relay::reset(Relayed& c) {
  for (const int fd : c.fds) {
    const linger at_once{1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
  }
  c.over = true;
}

void Relay::read_from(Relayed& c, Direction d, std::int64_t now) {
  Pipe& pipe = c.pipes[d];
  const double rate = behaviour_.rate_bytes_per_s[d];
  const std::size_t most =
      rate > 0 ? std::clamp<std::size_t>(static_cast<std::size_t>(rate / 200), 1, kChunkBytes)
               : kChunkBytes;
  while (!pipe.read_end && pipe.queued_bytes < capacity(d)) {
    Chunk chunk{now + behaviour_.delay_ns, std::vector<char>(most)};
    const ssize_t got = recv(c.fds[d], chunk.data.data(), most, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got < 0) {
      reset(c);
      return;
    }
    chunk.data.resize(static_cast<std::size_t>(got));
    if (got == 0) pipe.read_end = true;  // an empty chunk is the end
    if (rate > 0) {
      pipe.free_at_ns = std::max(pipe.free_at_ns, now) +
                        static_cast<std::int64_t>(static_cast<double>(got) / rate * 1e9);
      chunk.due_ns = pipe.free_at_ns + behaviour_.delay_ns;
    }
    pipe.queued_bytes += chunk.data.size();
    pipe.chunks.push_back(std::move(chunk));
  }
}

// What `after` asked for has come.
void Relay::spring(Relayed& c, Direction d) {
  behaviour_.bytes_until[d].reset();
  if (behaviour_.then[d] == "cut") behaviour_.cut = true;
  if (behaviour_.then[d] == "drop") c.dead = true;
  if (behaviour_.then[d] == "reset") reset(c);
}

void Relay::write_due(Relayed& c, Direction d, std::int64_t now) {
  Pipe& pipe = c.pipes[d];
  pipe.blocked = false;
  while (!c.over && !c.dead && !behaviour_.cut && !behaviour_.stalled[d] && c.connected &&
         !pipe.chunks.empty() && pipe.chunks.front().due_ns <= now) {
    Chunk& chunk = pipe.chunks.front();
    if (chunk.data.empty()) {
      shutdown(c.fds[1 - d], SHUT_WR);
      pipe.write_end = true;
      pipe.chunks.pop_front();
      continue;
    }
    std::size_t size = chunk.data.size() - chunk.sent;
    auto& until = behaviour_.bytes_until[d];
    if (until) size = std::min<std::size_t>(size, *until);
    const ssize_t sent = size == 0 ? 0
                                   : send(c.fds[1 - d], chunk.data.data() + chunk.sent, size,
                                          MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
      pipe.blocked = true;
      return;
    }
    if (sent < 0) {
      reset(c);
      return;
    }
    chunk.sent += static_cast<std::size_t>(sent);
    pipe.queued_bytes -= static_cast<std::size_t>(sent);
    bytes_[d] += static_cast<std::uint64_t>(sent);
    if (chunk.sent == chunk.data.size()) pipe.chunks.pop_front();
    if (until && (*until -= static_cast<std::uint64_t>(sent)) == 0) spring(c, d);
  }
}

std::int64_t Relay::next_due(std::int64_t now) const {
  std::int64_t next = now + 1'000'000'000;
  for (const Relayed& c : connections_) {
    if (c.dead || behaviour_.cut) continue;
    for (const Direction d : {kUp, kDown}) {
      const Pipe& pipe = c.pipes[d];
      if (c.connected && !pipe.chunks.empty() && !pipe.blocked && !behaviour_.stalled[d])
        next = std::min(next, pipe.chunks.front().due_ns);
    }
  }
  return next;
}

std::string Relay::obey(const std::string& line) {
  std::istringstream in(line);
  std::string verb, direction, text;
  double number = 0;
  in >> verb;
  std::vector<Direction> directions;
  if (verb == "rate" || verb == "stall" || verb == "after") {
    in >> direction;
    if (direction == "up" || direction == "both") directions.push_back(kUp);
    if (direction == "down" || direction == "both") directions.push_back(kDown);
    if (directions.empty())
      return "error the direction (" + direction + ") must be up, down or both";
  }
  if (verb == "delay" && in >> number && number >= 0) {
    behaviour_.delay_ns = static_cast<std::int64_t>(number * 1000);
  } else if (verb == "rate" && in >> number && number >= 0) {
    for (const Direction d : directions) behaviour_.rate_bytes_per_s[d] = number;
  } else if (verb == "stall" && in >> text && (text == "on" || text == "off")) {
    for (const Direction d : directions) behaviour_.stalled[d] = text == "on";
  } else if (verb == "after" && in >> number >> text && number >= 0 &&
             (text == "cut" || text == "drop" || text == "reset")) {
    for (const Direction d : directions) {
      behaviour_.bytes_until[d] = static_cast<std::uint64_t>(number);
      behaviour_.then[d] = text;
    }
  } else if (verb == "cut") {
    behaviour_.cut = true;
  } else if (verb == "restore" || verb == "reset") {
    if (verb == "restore") behaviour_.cut = false;
    for (Relayed& c : connections_) reset(c);
  } else if (verb == "target" && in >> text) {
    const auto colon = text.rfind(':');
    if (colon == std::string::npos ||
        inet_pton(AF_INET, text.substr(0, colon).c_str(), &target_.sin_addr) != 1)
      return "error the target (" + text + ") must be IP:PORT";
    target_.sin_port = htons(static_cast<std::uint16_t>(std::atoi(text.c_str() + colon + 1)));
  } else if (verb == "stats") {
    return "ok " + std::to_string(connections_.size()) + " " + std::to_string(accepted_) + " " +
           std::to_string(bytes_[kUp]) + " " + std::to_string(bytes_[kDown]);
  } else {
    return "error the command (" + line + ") is not one of this relay's";
  }
  return "ok";
}

// One controller at a time, one command a connection.
void Relay::converse(int fd) {
  const timeval patience{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::string line;
  char byte = 0;
  while (line.size() < 256 && recv(fd, &byte, 1, 0) == 1 && byte != '\n') line += byte;
  const std::string answer = obey(line) + "\n";
  (void)!send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
  close(fd);
}

void Relay::run() {
  std::array<epoll_event, 64> events;
  for (;;) {
    std::int64_t now = now_ns();
    const std::int64_t wait = std::max<std::int64_t>(0, next_due(now) - now);
    const timespec timeout{wait / 1'000'000'000, wait % 1'000'000'000};
    const int count =
        epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
    now = now_ns();
    for (int i = 0; i < count; ++i) {
      if (events[i].data.ptr == &listener_) {
        if (!behaviour_.cut) accept_one();
      } else if (events[i].data.ptr == &control_) {
        if (const int fd = accept4(control_, nullptr, nullptr, SOCK_CLOEXEC); fd >= 0) converse(fd);
        epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_, nullptr);
        if (!behaviour_.cut) add(epoll_, listener_, &listener_, EPOLLIN);
      }
    }
    if (behaviour_.cut) epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_, nullptr);
    for (Relayed& c : connections_) {
      if (!c.over && !c.connected && !c.dead && !behaviour_.cut) {
        int failure = 0;
        socklen_t size = sizeof failure;
        sockaddr_in peer{};
        socklen_t peer_size = sizeof peer;
        getsockopt(c.fds[kDown], SOL_SOCKET, SO_ERROR, &failure, &size);
        if (failure != 0)
          reset(c);
        else
          c.connected =
              getpeername(c.fds[kDown], reinterpret_cast<sockaddr*>(&peer), &peer_size) == 0;
      }
      for (const Direction d : {kUp, kDown}) {
        if (!c.over && !c.dead && !behaviour_.cut && c.connected && !behaviour_.stalled[d])
          read_from(c, d, now);
        if (!c.over) write_due(c, d, now);
      }
      if (!c.over && c.pipes[kUp].write_end && c.pipes[kDown].write_end) {
        close(c.fds[kUp]);
        close(c.fds[kDown]);
        c.over = true;
      }
      watch(c);
    }
    connections_.remove_if([](const Relayed& c) { return c.over; });
  }
}

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: net_relay LISTEN_IP TARGET_IP:PORT CONTROL_SOCKET\n", stderr);
    return 2;
  }
  prctl(PR_SET_TIMERSLACK, 1);
  sockaddr_in here{}, target{};
  here.sin_family = target.sin_family = AF_INET;
  const std::string to = argv[2];
  const auto colon = to.rfind(':');
  if (inet_pton(AF_INET, argv[1], &here.sin_addr) != 1 || colon == std::string::npos ||
      inet_pton(AF_INET, to.substr(0, colon).c_str(), &target.sin_addr) != 1) {
    std::fputs("net_relay: addresses must be numeric IPv4\n", stderr);
    return 2;
  }
  target.sin_port = htons(static_cast<std::uint16_t>(std::atoi(to.c_str() + colon + 1)));
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (bind(listener, reinterpret_cast<sockaddr*>(&here), sizeof here) < 0 ||
      listen(listener, 512) < 0)
    die("listen");
  const int control = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_un path{};
  path.sun_family = AF_UNIX;
  if (std::string(argv[3]).size() >= sizeof path.sun_path)
    die("the control socket's path is too long");
  std::copy_n(argv[3], std::string(argv[3]).size(), path.sun_path);
  if (bind(control, reinterpret_cast<sockaddr*>(&path), sizeof path) < 0 || listen(control, 16) < 0)
    die("control");
  socklen_t size = sizeof here;
  getsockname(listener, reinterpret_cast<sockaddr*>(&here), &size);
  std::printf("%d\n", ntohs(here.sin_port));
  std::fflush(stdout);
  Relay(listener, control, target).run();
}
