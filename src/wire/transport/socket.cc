// SPDX-License-Identifier: Apache-2.0
#include "wire/transport/socket.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <system_error>
#include <utility>
#include <vector>

#include "wire/transport/descriptor_message.h"
#include "wire/transport/endpoint.h"

namespace outboard::wire {
namespace {

tl::unexpected<Error> socket_error(int code, std::string_view what) {
  if (code == EAGAIN || code == EWOULDBLOCK)
    return error(ErrorKind::kTimeout, "peer made no progress within the time limit, while {}",
                 what);
  return error(ErrorKind::kDisconnected, "connection broke ({}), while {}",
               std::generic_category().message(code), what);
}

// Whether a connected TCP socket's peer is beyond loopback.
bool leaves_host(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return false;
  return (peer.ss_family == AF_INET || peer.ss_family == AF_INET6) &&
         !is_loopback(reinterpret_cast<const sockaddr*>(&peer));
}

class SocketStream : public Stream {
 public:
  SocketStream(int fd, bool leaves_host) : fd_(fd), leaves_host_(leaves_host) {
    const int one = 1;  // fails on a unix socket, which has no Nagle
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  ~SocketStream() override { ::close(fd_); }

  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    msghdr message{};
    return receive(buffers, message, 0);
  }
  Result<std::size_t> read_what_is_there(std::span<const iovec> buffers) override {
    msghdr message{};
    return receive(buffers, message, MSG_DONTWAIT);
  }
  bool can_look() const override { return true; }

  Result<void> write_all(std::span<iovec> buffers) override {
    msghdr message{};
    return send_all(buffers, message);
  }

  void set_stall_timeout(std::chrono::milliseconds timeout) override {
    if (timeout == timeout_) return;
    timeout_ = timeout;
    const timeval value{.tv_sec = timeout.count() / 1000,
                        .tv_usec = (timeout.count() % 1000) * 1000};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value);
  }
  // As the peer's system acknowledged them.
  std::uint64_t delivered_bytes() const override { return info().tcpi_bytes_acked; }
  Path path() const override {
    if (!leaves_host_) return {};
    const std::uint32_t us = info().tcpi_min_rtt;
    return {true, std::chrono::microseconds(us == UINT32_MAX ? 0 : us)};
  }
  void keep_little_unsent(bool little) override {
    if (!leaves_host_ || little == std::exchange(keeps_little_unsent_, little)) return;
    const int bytes = little ? kMostUnsentBytes : 0;  // 0: as the system has it
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
  }

  void shut_down() override { ::shutdown(fd_, SHUT_RDWR); }
  // Closing then drops what the system still holds, and resets the connection.
  void abandon() override {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    shut_down();
  }

  Result<std::size_t> peek(std::span<std::byte> buffer) override {
    const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), MSG_PEEK | MSG_DONTWAIT);
    if (n > 0) return static_cast<std::size_t>(n);
    if (n == 0) return error(ErrorKind::kDisconnected, "peer closed the connection");
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return std::size_t{0};
    return socket_error(errno, "looking for a cancel");
  }

  int poll_fd() const override { return fd_; }

 protected:
  int fd() const { return fd_; }

  // `message` may bring room for ancillary data.
  Result<std::size_t> receive(std::span<const iovec> buffers, msghdr& message, int flags) {
    message.msg_iov = const_cast<iovec*>(buffers.data());  // recvmsg does not change it
    message.msg_iovlen = std::min<std::size_t>(buffers.size(), IOV_MAX);
    const auto control_bytes = message.msg_controllen;
    for (;;) {
      message.msg_controllen = control_bytes;
      const ssize_t n = ::recvmsg(fd_, &message, flags | MSG_CMSG_CLOEXEC);
      if (n > 0) return static_cast<std::size_t>(n);
      if (n == 0) return error(ErrorKind::kDisconnected, "peer closed the connection");
      if (errno == EAGAIN && flags == MSG_DONTWAIT) {
        message.msg_controllen = 0;
        return std::size_t{0};
      }
      if (errno != EINTR) return socket_error(errno, "receiving");
    }
  }

  // The ancillary data of `message` leaves with the first byte.
  Result<void> send_all(std::span<iovec> buffers, msghdr& message) {
    std::uint64_t bytes = 0;
    for (const iovec& buffer : buffers) bytes += buffer.iov_len;
    std::uint64_t delivered = bytes < kWorthFollowingBytes ? 0 : delivered_bytes();
    while (!buffers.empty()) {
      message.msg_iov = buffers.data();
      message.msg_iovlen = std::min<std::size_t>(buffers.size(), IOV_MAX);
      const ssize_t sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EINTR) continue;
        // The system wakes a writer only when a third of its buffer is free, which a slow link may
        // take long for.
        const int code = errno;
        if (code == EAGAIN && bytes >= kWorthFollowingBytes && made_progress(delivered)) continue;
        return socket_error(code, "sending");
      }
      message.msg_control = nullptr;
      message.msg_controllen = 0;
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

 private:
  // Since `delivered` was looked at last.
  bool made_progress(std::uint64_t& delivered) const {
    const std::uint64_t before = std::exchange(delivered, delivered_bytes());
    return delivered >= before + kProgressBytes;
  }

  // All zeros where the system does not know.
  tcp_info info() const {
    tcp_info info{};
    socklen_t size = sizeof info;
    if (::getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) info = {};
    return info;
  }

  // Beyond what the system may send now.
  static constexpr int kMostUnsentBytes = 128 << 10;

  const int fd_;
  const bool leaves_host_;
  bool keeps_little_unsent_ = false;
  std::chrono::milliseconds timeout_{0};
};

// A unix socket: bytes, and descriptors beside them.
class UnixStream final : public SocketStream, public DescriptorPassing {
 public:
  explicit UnixStream(int fd) : SocketStream(fd, /*leaves_host=*/false) {}

  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    return receive_both(buffers, 0);
  }
  Result<std::size_t> read_what_is_there(std::span<const iovec> buffers) override {
    return receive_both(buffers, MSG_DONTWAIT);
  }

  Result<void> write_all_with(std::span<iovec> buffers, int descriptor) override {
    DescriptorRoom<1> room;
    msghdr message{};
    room.put(message, descriptor);
    return send_all(buffers, message);
  }

  FileDescriptor take_descriptor() override {
    if (waiting_.empty()) return {};
    FileDescriptor oldest = std::move(waiting_.front());
    waiting_.erase(waiting_.begin());
    return oldest;
  }

  bool peer_is_same_user() const override {
    ucred peer{};
    socklen_t size = sizeof peer;
    return ::getsockopt(fd(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           peer.uid == ::geteuid();
  }

  DescriptorPassing* descriptors() override { return this; }

 private:
  static constexpr std::size_t kMostAtOnce = 2, kMostWaiting = 4;

  Result<std::size_t> receive_both(std::span<const iovec> buffers, int flags) {
    DescriptorRoom<kMostAtOnce> room;
    msghdr message{};
    room.receive_into(message);
    OB_TRY(const std::size_t n, receive(buffers, message, flags));
    if (message.msg_controllen > 0) OB_CHECK_OK(keep_descriptors(message));
    return n;
  }

  Result<void> keep_descriptors(msghdr& message) {
    take_descriptors(message, [this](FileDescriptor one) { waiting_.push_back(std::move(one)); });
    if ((message.msg_flags & MSG_CTRUNC) == 0 && waiting_.size() <= kMostWaiting) return {};
    waiting_.clear();
    return error(ErrorKind::kInvalid, "peer sent more descriptors than it may");
  }

  std::vector<FileDescriptor> waiting_;
};

}  // namespace

std::unique_ptr<Stream> make_socket_stream(int fd) {
  int domain = 0;
  socklen_t size = sizeof domain;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX)
    return std::make_unique<UnixStream>(fd);
  return std::make_unique<SocketStream>(fd, leaves_host(fd));
}

void choose_congestion_control(int fd) {
  // Never destroyed: connections are made while the process ends.
  static const std::string& name = *[] {
    const char* given = std::getenv("OUTBOARD_TCP_CONGESTION");
    return new std::string(given == nullptr ? "cubic" : given);
  }();
  if (name != "system")
    ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size()));
}

}  // namespace outboard::wire
