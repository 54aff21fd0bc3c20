// SPDX-License-Identifier: Apache-2.0
#include "wire/transport/ring_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <thread>

#include "base/check.h"
#include "base/clock.h"

namespace outboard::wire {
namespace {

constexpr std::uint64_t kRingBytes = 64u << 10;
// A writer whose ring is full gives way so often before it sleeps, and then sleeps for so long.
constexpr int kYields = 50;
constexpr std::chrono::microseconds kNap{50};

// The begin of a region, each word in a cache line of its own.
struct Control {
  alignas(64) std::atomic<std::uint64_t> written;  // bytes so far into this side's ring
  alignas(64) std::atomic<std::uint64_t> read;     // bytes so far out of the peer's ring
  alignas(64) std::atomic<std::uint32_t> sleeps;   // until a byte comes by the socket
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
constexpr std::uint64_t kRegionBytes = sizeof(Control) + kRingBytes;

class RingStream final : public Stream, public DescriptorPassing {
 public:
  RingStream(std::unique_ptr<Stream> below, SharedRegion own, PeerRegion peer)
      : below_(std::move(below)),
        own_(std::move(own)),
        peer_(std::move(peer)),
        control_(new(own_.bytes().data()) Control{}),
        peers_(reinterpret_cast<const Control*>(peer_.bytes().data())) {
    own_.close_descriptor();
  }

  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    for (;;) {
      OB_TRY(std::size_t n, take(buffers));
      if (n > 0) return n;
      control_->sleeps.store(1, std::memory_order_relaxed);
      // Either we see what the writer wrote, or it sees that we sleep.
      std::atomic_thread_fence(std::memory_order_seq_cst);
      auto late = take(buffers);
      const auto woken = late && *late == 0 ? drain_doorbells() : Result<void>();
      control_->sleeps.store(0, std::memory_order_relaxed);
      if (!late || *late > 0) return late;
      if (woken) continue;
      OB_TRY(n, take(buffers));  // what came before the end
      if (n > 0) return n;
      return tl::make_unexpected(woken.error());
    }
  }
  Result<std::size_t> read_what_is_there(std::span<const iovec> buffers) override {
    return take(buffers);
  }
  bool can_look() const override { return true; }

  Result<void> write_all(std::span<iovec> buffers) override {
    for (const iovec& buffer : buffers) {
      std::span left(static_cast<const std::byte*>(buffer.iov_base), buffer.iov_len);
      while (!left.empty()) {
        OB_TRY(const std::uint64_t room, wait_for_room());
        const std::size_t at = written_ % kRingBytes;
        const std::size_t n = std::min<std::uint64_t>({left.size(), room, kRingBytes - at});
        std::memcpy(ring() + at, left.data(), n);
        written_ += n;
        left = left.subspan(n);
      }
    }
    return publish();
  }

  void set_stall_timeout(std::chrono::milliseconds timeout) override {
    below_->set_stall_timeout(timeout);
  }
  bool takes_at_once(std::size_t bytes) const override {
    const auto free = room();
    return free && *free >= bytes;
  }
  std::uint64_t delivered_bytes() const override {
    return peers_->read.load(std::memory_order_relaxed);
  }
  void shut_down() override { below_->shut_down(); }
  void abandon() override { below_->abandon(); }

  Result<std::size_t> peek(std::span<std::byte> buffer) override {
    OB_TRY(const std::size_t n, copy(std::array{iovec{buffer.data(), buffer.size()}}));
    if (n > 0) return n;
    OB_CHECK_OK(check_peer());
    return std::size_t{0};
  }
  bool holds_bytes() const override {
    return peers_->written.load(std::memory_order_acquire) != read_;
  }
  int poll_fd() const override { return below_->poll_fd(); }

  DescriptorPassing* descriptors() override { return this; }
  Result<void> write_all_with(std::span<iovec> buffers, int descriptor) override {
    std::byte doorbell{};
    iovec part{&doorbell, 1};
    OB_CHECK_OK(below_->descriptors()->write_all_with(std::span(&part, 1), descriptor));
    return write_all(buffers);
  }
  // It left before the bytes with which it came, so it is there.
  FileDescriptor take_descriptor() override {
    std::array<std::byte, 64> doorbells;
    const iovec part{doorbells.data(), doorbells.size()};
    for (;;) {
      FileDescriptor oldest = below_->descriptors()->take_descriptor();
      if (oldest.get() >= 0) return oldest;
      const auto n = below_->read_what_is_there(std::span(&part, 1));
      if (!n || *n == 0) return {};
    }
  }
  bool peer_is_same_user() const override { return below_->descriptors()->peer_is_same_user(); }

 private:
  std::byte* ring() const { return own_.bytes().data() + sizeof(Control); }

  // What is there, without consuming it.
  Result<std::size_t> copy(std::span<const iovec> buffers) const {
    const std::uint64_t there = peers_->written.load(std::memory_order_acquire) - read_;
    if (there > kRingBytes)
      return error(ErrorKind::kInvalid, "peer's ring holds {} bytes of at most {}", there,
                   kRingBytes);
    const std::byte* const ring = peer_.bytes().data() + sizeof(Control);
    std::size_t done = 0;
    for (const iovec& buffer : buffers) {
      std::span space(static_cast<std::byte*>(buffer.iov_base), buffer.iov_len);
      while (!space.empty() && done < there) {
        const std::size_t at = (read_ + done) % kRingBytes;
        const std::size_t n =
            std::min<std::uint64_t>({space.size(), there - done, kRingBytes - at});
        std::memcpy(space.data(), ring + at, n);
        done += n;
        space = space.subspan(n);
      }
    }
    return done;
  }
  Result<std::size_t> take(std::span<const iovec> buffers) {
    OB_TRY(const std::size_t n, copy(buffers));
    if (n > 0) control_->read.store(read_ += n, std::memory_order_release);
    return n;
  }
  Result<void> drain_doorbells() {
    std::array<std::byte, 64> doorbells;
    const iovec part{doorbells.data(), doorbells.size()};
    OB_CHECK_OK(below_->read_some(std::span(&part, 1)));
    return {};
  }

  // What was written is the reader's from here on.
  Result<void> publish() {
    control_->written.store(written_, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (peers_->sleeps.load(std::memory_order_relaxed) == 0) return {};
    const std::byte doorbell{};
    // Where the socket is full there are doorbells that were not read yet, which wake the reader.
    if (::send(below_->poll_fd(), &doorbell, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ||
        errno == EAGAIN || errno == EWOULDBLOCK)
      return {};
    return error(ErrorKind::kDisconnected, "peer closed the connection");
  }
  // Doorbells that were not read would hide its end from a peek at the socket.
  Result<void> check_peer() const {
    pollfd poller{.fd = below_->poll_fd(), .events = POLLRDHUP, .revents = 0};
    if (::poll(&poller, 1, 0) > 0 &&
        (poller.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL)) != 0)
      return error(ErrorKind::kDisconnected, "peer closed the connection");
    return {};
  }
  Result<std::uint64_t> room() const {
    const std::uint64_t unread = written_ - peers_->read.load(std::memory_order_acquire);
    if (unread > kRingBytes)
      return error(ErrorKind::kInvalid, "peer has read {} bytes more than were written", -unread);
    return kRingBytes - unread;
  }
  // The socket's, which was set before or after the rings took over. Zero: none.
  Nanoseconds stall_timeout() const {
    timeval value{};
    socklen_t size = sizeof value;
    ::getsockopt(below_->poll_fd(), SOL_SOCKET, SO_SNDTIMEO, &value, &size);
    return std::chrono::seconds(value.tv_sec) + std::chrono::microseconds(value.tv_usec);
  }
  // Only messages larger than the ring wait here, so it need not be woken: it looks now and then.
  Result<std::uint64_t> wait_for_room() {
    OB_TRY(std::uint64_t free, room());
    if (free > 0) return free;
    OB_CHECK_OK(publish());
    const Clock& clock = Clock::monotonic();
    const Nanoseconds start = clock.now(), timeout = stall_timeout();
    for (int looks = 0;; ++looks) {
      OB_TRY(free, room());
      if (free > 0) return free;
      if (looks < kYields) {
        std::this_thread::yield();
        continue;
      }
      std::this_thread::sleep_for(kNap);
      OB_CHECK_OK(check_peer());
      if (timeout > Nanoseconds::zero() && clock.now() - start > timeout)
        return error(ErrorKind::kTimeout, "peer took nothing for {} ms",
                     timeout / std::chrono::milliseconds(1));
    }
  }

  const std::unique_ptr<Stream> below_;
  SharedRegion own_;
  PeerRegion peer_;
  Control* const control_;
  const Control* const peers_;
  std::uint64_t read_ = 0;     // the reader's
  std::uint64_t written_ = 0;  // the writer's
};

}  // namespace

Result<SharedRegion> make_ring_region() { return SharedRegion::create(kRegionBytes); }

Result<PeerRegion> map_ring_region(const FileDescriptor& descriptor) {
  return PeerRegion::map(descriptor, kRegionBytes);
}

std::unique_ptr<Stream> make_ring_stream(std::unique_ptr<Stream> below, SharedRegion own,
                                         PeerRegion peer) {
  OB_CHECK(below->descriptors() != nullptr);
  return std::make_unique<RingStream>(std::move(below), std::move(own), std::move(peer));
}

}  // namespace outboard::wire
