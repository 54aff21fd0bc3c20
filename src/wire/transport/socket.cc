// SPDX-License-Identifier: Apache-2.0
#include "wire/transport/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <system_error>

namespace outboard::wire {
namespace {

tl::unexpected<Error> socket_error(int code, std::string_view what) {
  if (code == EAGAIN || code == EWOULDBLOCK)
    return error(ErrorKind::kTimeout, "peer made no progress within the time limit, while {}",
                 what);
  return error(ErrorKind::kDisconnected, "connection broke ({}), while {}",
               std::generic_category().message(code), what);
}

class SocketStream final : public Stream {
 public:
  explicit SocketStream(int fd) : fd_(fd) {
    const int one = 1;  // fails on unix sockets, which have no Nagle to switch off
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  ~SocketStream() override { ::close(fd_); }

  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(buffers.data());  // recvmsg does not change it
    message.msg_iovlen = std::min<std::size_t>(buffers.size(), IOV_MAX);
    for (;;) {
      const ssize_t n = ::recvmsg(fd_, &message, 0);
      if (n > 0) return static_cast<std::size_t>(n);
      if (n == 0) return error(ErrorKind::kDisconnected, "peer closed the connection");
      if (errno != EINTR) return socket_error(errno, "receiving");
    }
  }

  Result<void> write_all(std::span<iovec> buffers) override {
    while (!buffers.empty()) {
      msghdr message{};
      message.msg_iov = buffers.data();
      message.msg_iovlen = std::min<std::size_t>(buffers.size(), IOV_MAX);
      const ssize_t sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EINTR) continue;
        return socket_error(errno, "sending");
      }
      auto left = static_cast<std::size_t>(sent);
      while (!buffers.empty() && left >= buffers.front().iov_len) {
        left -= buffers.front().iov_len;
        buffers = buffers.subspan(1);
      }
      if (left > 0) {
        buffers.front().iov_base = static_cast<char*>(buffers.front().iov_base) + left;
        buffers.front().iov_len -= left;
      }
    }
    return {};
  }

  void set_stall_timeout(std::chrono::milliseconds timeout) override {
    if (timeout == timeout_) return;
    timeout_ = timeout;
    const timeval value{.tv_sec = timeout.count() / 1000,
                        .tv_usec = (timeout.count() % 1000) * 1000};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value);
  }

  void shut_down() override { ::shutdown(fd_, SHUT_RDWR); }

  Result<std::size_t> peek(std::span<std::byte> buffer) override {
    const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), MSG_PEEK | MSG_DONTWAIT);
    if (n > 0) return static_cast<std::size_t>(n);
    if (n == 0) return error(ErrorKind::kDisconnected, "peer closed the connection");
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return std::size_t{0};
    return socket_error(errno, "looking for a cancel");
  }

  int poll_fd() const override { return fd_; }

 private:
  const int fd_;
  std::chrono::milliseconds timeout_{0};
};

}  // namespace

std::unique_ptr<Stream> make_socket_stream(int fd) { return std::make_unique<SocketStream>(fd); }

}  // namespace outboard::wire
