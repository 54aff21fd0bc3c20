// SPDX-License-Identifier: Apache-2.0
#include "wire/transport/endpoint.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <system_error>

#include "base/clock.h"
#include "wire/transport/file_descriptor.h"
#include "wire/transport/resolver.h"
#include "wire/transport/socket.h"

namespace outboard::wire {
namespace {

std::string reason(int code) { return std::generic_category().message(code); }

Result<sockaddr_un> unix_address(const Endpoint& endpoint) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (endpoint.path.size() >= sizeof address.sun_path)
    return error(ErrorKind::kInvalid, "path of a unix socket ({}) must be shorter than {} bytes",
                 endpoint.path, sizeof address.sun_path);
  std::memcpy(address.sun_path, endpoint.path.c_str(), endpoint.path.size() + 1);
  return address;
}

// Connects within the time limit; 0 or the errno.
int connect_within(int fd, const sockaddr* address, socklen_t size, Deadline deadline) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  int code = ::connect(fd, address, size) == 0 ? 0 : errno;
  if (code == EINPROGRESS || code == EAGAIN) {
    // EAGAIN: a unix socket whose backlog is full; poll would not wait for it.
    if (code == EAGAIN) return code;
    pollfd poller{.fd = fd, .events = POLLOUT, .revents = 0};
    int ready;
    do {
      ready = ::poll(&poller, 1, deadline.poll_timeout_ms());
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) return ETIMEDOUT;
    socklen_t length = sizeof code;
    ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length);
  }
  ::fcntl(fd, F_SETFL, flags);
  return code;
}

tl::unexpected<Error> connect_error(const Endpoint& endpoint, int code) {
  if (code == ETIMEDOUT)
    return error(ErrorKind::kTimeout, "server ({}) did not answer in time", endpoint.to_string());
  return error(ErrorKind::kDisconnected, "server ({}) cannot be reached: {}", endpoint.to_string(),
               reason(code));
}

Endpoint endpoint_of(int fd, const Endpoint& asked) {
  if (asked.kind == Endpoint::Kind::kUnix) return asked;
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  Endpoint real = asked;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    real.port =
        ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                            : reinterpret_cast<sockaddr_in&>(address).sin_port);
  }
  return real;
}

// A client that vanishes without a word (its power, its address) is noticed half a minute after it
// was last heard of, whether it owes an answer to something that was sent or not. Does nothing to a
// unix socket.
void notice_vanished_peer(int fd) {
  const auto set = [fd](int level, int option, int value) {
    ::setsockopt(fd, level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);  // milliseconds
}

class SocketListener final : public Listener {
 public:
  SocketListener(int fd, const Endpoint& asked)
      : fd_(fd), wake_(::eventfd(0, EFD_CLOEXEC)), endpoint_(endpoint_of(fd, asked)) {
    struct stat status{};
    if (endpoint_.kind == Endpoint::Kind::kUnix && ::stat(endpoint_.path.c_str(), &status) == 0)
      inode_ = status.st_ino;
  }
  ~SocketListener() override {
    // Only our own file: another server may have taken the path over.
    struct stat status{};
    if (inode_ != 0 && ::stat(endpoint_.path.c_str(), &status) == 0 && status.st_ino == inode_)
      ::unlink(endpoint_.path.c_str());
  }

  Result<std::unique_ptr<Stream>> accept() override {
    OB_TRY(const int client, accept_descriptor());
    return make_socket_stream(client);
  }
  Result<int> accept_descriptor() override {
    for (;;) {
      std::array<pollfd, 2> pollers{{{.fd = fd_.get(), .events = POLLIN, .revents = 0},
                                     {.fd = wake_.get(), .events = POLLIN, .revents = 0}}};
      if (::poll(pollers.data(), pollers.size(), -1) < 0 && errno != EINTR)
        return error(ErrorKind::kInternal, "poll failed: {}", reason(errno));
      if (pollers[1].revents != 0) return error(ErrorKind::kDisconnected, "listener was shut down");
      if (pollers[0].revents == 0) continue;
      const int client = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (client >= 0) {
        notice_vanished_peer(client);
        return client;
      }
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        return error(ErrorKind::kOverloaded, "a connection cannot be accepted: {}", reason(errno));
      // Everything else concerns that one client, who has gone (ECONNABORTED and the like).
    }
  }
  void shut_down() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = ::write(wake_.get(), &one, sizeof one);
  }
  Endpoint local_endpoint() const override { return endpoint_; }

 private:
  const FileDescriptor fd_, wake_;
  const Endpoint endpoint_;
  ino_t inode_ = 0;
};

constexpr int kBacklog = 4096;

Result<std::unique_ptr<Listener>> listen_tcp(const Endpoint& endpoint) {
  OB_TRY(const Addresses list, look_up(endpoint, AI_PASSIVE));
  int code = EADDRNOTAVAIL;
  for (const addrinfo* a = list.get(); a != nullptr; a = a->ai_next) {
    FileDescriptor fd(::socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol));
    const int one = 1;
    if (fd.get() >= 0) {
      ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
      choose_congestion_control(fd.get());
    }
    if (fd.get() >= 0 && ::bind(fd.get(), a->ai_addr, a->ai_addrlen) == 0 &&
        ::listen(fd.get(), kBacklog) == 0)
      return std::make_unique<SocketListener>(fd.release(), endpoint);
    code = errno;
  }
  return error(ErrorKind::kInvalid, "address ({}) cannot be listened on: {}", endpoint.to_string(),
               reason(code));
}

Result<std::unique_ptr<Listener>> listen_unix(const Endpoint& endpoint) {
  OB_TRY(const sockaddr_un address, unix_address(endpoint));
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  FileDescriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return error(ErrorKind::kInternal, "no socket: {}", reason(errno));
  if (::bind(fd.get(), generic, sizeof address) != 0) {
    if (errno != EADDRINUSE)
      return error(ErrorKind::kInvalid, "path ({}) cannot be listened on: {}", endpoint.path,
                   reason(errno));
    const FileDescriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(probe.get(), generic, sizeof address) == 0 || errno != ECONNREFUSED)
      return error(ErrorKind::kInvalid,
                   "path ({}) is in use: it must be free, or a socket that nobody listens on",
                   endpoint.path);
    ::unlink(endpoint.path.c_str());
    if (::bind(fd.get(), generic, sizeof address) != 0)
      return error(ErrorKind::kInvalid, "path ({}) cannot be listened on: {}", endpoint.path,
                   reason(errno));
  }
  if (::listen(fd.get(), kBacklog) != 0)
    return error(ErrorKind::kInvalid, "path ({}) cannot be listened on: {}", endpoint.path,
                 reason(errno));
  return std::make_unique<SocketListener>(fd.release(), endpoint);
}

}  // namespace

std::string Endpoint::to_string() const {
  if (kind == Kind::kUnix) return "unix:" + path;
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  Endpoint endpoint;
  if (text.starts_with("unix:")) {
    endpoint.kind = Endpoint::Kind::kUnix;
    endpoint.path = text.substr(5);
    if (endpoint.path.empty())
      return error(ErrorKind::kInvalid, "address ({}) must be unix:PATH", text);
    return endpoint;
  }
  const auto bad = [&] {
    return error(ErrorKind::kInvalid, "address ({}) must be HOST:PORT, [IPV6]:PORT or unix:PATH",
                 text);
  };
  std::string_view host = text, port;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return bad();
    host = text.substr(1, close - 1);
    const std::string_view rest = text.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') return bad();
    if (!rest.empty()) port = rest.substr(1);
    if (!rest.empty() && port.empty()) return bad();
  } else if (const auto colon = text.rfind(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty() || host.find(':') != std::string_view::npos) return bad();
  }
  if (host.empty() || host.find_first_of("/@#? \t\n") != std::string_view::npos) return bad();
  endpoint.host = host;
  endpoint.port = kDefaultPort;
  if (!port.empty()) {
    const auto [end, code] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
    if (code != std::errc() || end != port.data() + port.size())
      return error(ErrorKind::kInvalid,
                   "port ({}) of address ({}) must be a number from 0 to 65535", port, text);
  }
  return endpoint;
}

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET)
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  if (address->sa_family == AF_INET6) {
    const in6_addr& six = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
  }
  return false;
}

Result<bool> is_local(const Endpoint& endpoint) {
  if (endpoint.kind == Endpoint::Kind::kUnix) return true;
  OB_TRY(const Addresses list, look_up(endpoint, AI_PASSIVE));
  for (const addrinfo* a = list.get(); a != nullptr; a = a->ai_next) {
    if (!is_loopback(a->ai_addr)) return false;
  }
  return true;
}

Result<std::unique_ptr<Stream>> connect_to(const Endpoint& endpoint,
                                           std::chrono::milliseconds timeout) {
  Resolver resolver(endpoint);
  return connect_to(endpoint, timeout, resolver);
}

Result<std::unique_ptr<Stream>> connect_to(const Endpoint& endpoint,
                                           std::chrono::milliseconds timeout, Resolver& resolver) {
  const Deadline deadline = Deadline::in(timeout);
  if (endpoint.kind == Endpoint::Kind::kUnix) {
    OB_TRY(const sockaddr_un address, unix_address(endpoint));
    FileDescriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (fd.get() < 0) return connect_error(endpoint, errno);
    const int code = connect_within(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                                    sizeof address, deadline);
    if (code != 0) return connect_error(endpoint, code);
    return make_socket_stream(fd.release());
  }
  const auto list = resolver.addresses(deadline);
  // Where the link is gone the resolver is, too: the name may resolve later.
  if (!list)
    return error(
        list.error().kind == ErrorKind::kTimeout ? ErrorKind::kTimeout : ErrorKind::kDisconnected,
        "server ({}) cannot be reached: {}", endpoint.to_string(), list.error().message);
  int code = ECONNREFUSED;
  for (const addrinfo* a = list->get(); a != nullptr; a = a->ai_next) {
    FileDescriptor fd(::socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol));
    if (fd.get() < 0) {
      code = errno;
      continue;
    }
    choose_congestion_control(fd.get());
    code = connect_within(fd.get(), a->ai_addr, a->ai_addrlen, deadline);
    if (code == 0) return make_socket_stream(fd.release());
  }
  return connect_error(endpoint, code);
}

Result<std::unique_ptr<Listener>> listen_on(const Endpoint& endpoint) {
  return endpoint.kind == Endpoint::Kind::kUnix ? listen_unix(endpoint) : listen_tcp(endpoint);
}

}  // namespace outboard::wire
