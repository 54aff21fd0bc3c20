// SPDX-License-Identifier: Apache-2.0
// What the sockets themselves can do: a message there by writev and one of the same size back,
// received by recv into memory that is there already. A child process is the other side. See
// worker.h for how it is told to work.
//
//   bench_bare unix|tcp BYTES
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "bench/worker.h"

namespace {

using bench::die;

std::pair<int, int> connected(const std::string& kind) {
  std::array<int, 2> fds{};
  if (kind == "unix") {
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()) != 0) die("no socket");
    return {fds[0], fds[1]};
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
  // As Outboard's own sockets, whatever the system prefers.
  for (const int fd : {listener, client})
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", sizeof "cubic" - 1);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener, generic, size) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, generic, &size) != 0 || connect(client, generic, size) != 0)
    die("no connection");
  const int server = accept(listener, nullptr, nullptr);
  const int one = 1;
  for (const int fd : {client, server}) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return {client, server};
}

bool send_all(int fd, const char* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const iovec part{const_cast<char*>(data) + done, size - done};
    const ssize_t n = writev(fd, &part, 1);
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

bool receive_all(int fd, char* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = recv(fd, data + done, size - done, 0);
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

class BareCaller final : public bench::Caller {
 public:
  BareCaller(const std::string& kind, std::size_t size) : there_(size, 'a'), back_(size, 'b') {
    const auto [client, server] = connected(kind);
    fd_ = client;
    if (fork() == 0) {
      close(client);
      while (receive_all(server, there_.data(), size) && send_all(server, there_.data(), size)) {
      }
      _exit(0);
    }
    close(server);
  }
  void run() override {
    if (!send_all(fd_, there_.data(), there_.size()) ||
        !receive_all(fd_, back_.data(), back_.size()))
      die("the other side is gone");
  }
  std::uint64_t hash() override {
    run();
    return bench::hash_of(back_.data(), back_.size(), bench::kHashStart);
  }

 private:
  std::string there_, back_;
  int fd_ = -1;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) die("usage: bench_bare unix|tcp BYTES");
  const std::string kind = argv[1];
  const auto size = static_cast<std::size_t>(std::atoll(argv[2]));
  return bench::Worker([&] { return std::make_unique<BareCaller>(kind, size); }).serve(0);
}
