// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/handover.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/limits.h"
#include "wire/transport/descriptor_message.h"

namespace outboard::serve {
namespace {

// A worker's main thread does nothing else: it answers at once, if its machine lets it.
constexpr timeval kPatience{.tv_sec = 20, .tv_usec = 0};
constexpr std::size_t kFixedBytes = 1 + sizeof(Sha256::bytes);
constexpr std::size_t kMostBytes = kFixedBytes + limits::kNameBytes;

tl::unexpected<Error> socket_error(std::string_view doing, int code) {
  const bool late = code == EAGAIN || code == EWOULDBLOCK;
  return error(late ? ErrorKind::kTimeout : ErrorKind::kDisconnected, "{} failed: {}", doing,
               std::generic_category().message(code));
}

// recvmsg that is not interrupted.
ssize_t receive(int socket, msghdr& message) {
  for (;;) {
    const ssize_t n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (n >= 0 || errno != EINTR) return n;
  }
}

}  // namespace

Sha256 name_of(std::uint64_t number) {
  Sha256 name;
  std::memcpy(name.bytes.data(), &number, sizeof number);
  return name;
}

std::uint64_t number_of(const Sha256& name) {
  std::uint64_t number = 0;
  std::memcpy(&number, name.bytes.data(), sizeof number);
  return number;
}

Result<HandoverSockets> make_handover_sockets() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return error(ErrorKind::kOverloaded, "no socket for a worker: {}",
                 std::generic_category().message(errno));
  HandoverSockets sockets{wire::FileDescriptor(ends[0]), wire::FileDescriptor(ends[1])};
  ::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  return sockets;
}

Result<void> hand(int socket, const Handover& handover, int descriptor) {
  std::string bytes(1, static_cast<char>(handover.what));
  bytes.append(reinterpret_cast<const char*>(handover.model.bytes.data()),
               handover.model.bytes.size());
  bytes.append(handover.file_name);
  iovec part{bytes.data(), bytes.size()};
  wire::DescriptorRoom<1> room;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) room.put(message, descriptor);
  while (::sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
    if (errno != EINTR) return socket_error("handing something to a worker", errno);
  char taken = 0;
  part = {&taken, 1};
  msghdr answer{};
  answer.msg_iov = &part;
  answer.msg_iovlen = 1;
  const ssize_t n = receive(socket, answer);
  if (n < 0) return socket_error("waiting for a worker's answer", errno);
  if (n == 0) return error(ErrorKind::kDisconnected, "the worker has ended");
  if (taken == 1) return {};
  return error(ErrorKind::kOverloaded, "the worker could not take what it was handed");
}

Result<Handover> take_handover(int socket, wire::FileDescriptor& descriptor) {
  std::string bytes(kMostBytes, '\0');
  iovec part{bytes.data(), bytes.size()};
  wire::DescriptorRoom<1> room;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  room.receive_into(message);
  const ssize_t n = receive(socket, message);
  if (n < 0) return socket_error("waiting for the server", errno);
  if (n == 0) return error(ErrorKind::kDisconnected, "the server is gone");
  wire::take_descriptors(message, [&](wire::FileDescriptor one) { descriptor = std::move(one); });
  const auto size = static_cast<std::size_t>(n);
  if (size < kFixedBytes)
    return error(ErrorKind::kInvalid, "what was handed ({} bytes) must have at least {}", size,
                 kFixedBytes);
  Handover handover{.what = static_cast<Handed>(bytes[0])};
  std::memcpy(handover.model.bytes.data(), bytes.data() + 1, handover.model.bytes.size());
  handover.file_name = bytes.substr(kFixedBytes, size - kFixedBytes);
  return handover;
}

Result<void> answer_handover(int socket, bool taken) {
  const char byte = taken ? 1 : 0;
  if (::send(socket, &byte, 1, MSG_NOSIGNAL) == 1) return {};
  return socket_error("answering the server", errno);
}

}  // namespace outboard::serve
