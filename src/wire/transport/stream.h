// SPDX-License-Identifier: Apache-2.0
// A connected byte stream: what every transport (tcp, unix, in-process pair) offers, and nothing
// that only one of them has.
//
// Thread-safety: one reader and one writer at a time; shut_down() from any thread.
// Errors: kDisconnected when the peer is gone or the stream was shut down, kTimeout when the peer
// made no progress for the stall timeout. After either the stream is of no further use.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "base/result.h"
#include "wire/transport/file_descriptor.h"

namespace outboard::wire {

// What a unix socket can do beyond bytes. Thread-safety: as the Stream's.
class DescriptorPassing {
 public:
  virtual ~DescriptorPassing() = default;
  // Like Stream::write_all(); the peer gets `descriptor` with the first byte. Borrows it.
  virtual Result<void> write_all_with(std::span<iovec> buffers, int descriptor) = 0;
  // The oldest descriptor that came with bytes read so far and was not taken yet; none: false. At
  // most 4 wait; a peer that sends more breaks its stream (kInvalid).
  virtual FileDescriptor take_descriptor() = 0;
  // Whether the peer connected, or listened, as the user that this process runs as.
  virtual bool peer_is_same_user() const = 0;
};

// The way to the peer, as far as the transport knows it.
struct Path {
  bool leaves_host = false;                 // beyond loopback
  std::chrono::microseconds round_trip{0};  // the least that was seen; 0: none yet
};

class Stream {
 public:
  // Whether a message of so many bytes is still leaving is looked at. Fewer than kProgressBytes
  // from one look to the next are a trickle, not progress.
  static constexpr std::uint64_t kWorthFollowingBytes = 64u << 10;
  static constexpr std::uint64_t kProgressBytes = 4096;

  virtual ~Stream() = default;

  // Fills the buffers in order with what is there, at least one byte; blocks until then. The end of
  // the stream is kDisconnected.
  virtual Result<std::size_t> read_some(std::span<const iovec> buffers) = 0;
  // The same without blocking: 0 when nothing is there. Only where can_look().
  virtual Result<std::size_t> read_what_is_there(std::span<const iovec> /*buffers*/) {
    return std::size_t{0};
  }
  virtual bool can_look() const { return false; }
  // Writes all bytes of all buffers, in one system call where the peer keeps up. Changes `buffers`.
  virtual Result<void> write_all(std::span<iovec> buffers) = 0;

  // A read or write without any progress for this long fails with kTimeout. Zero: waits for ever
  // (the default).
  virtual void set_stall_timeout(std::chrono::milliseconds timeout) = 0;

  // Whether so many bytes can be written now without waiting for the reader, where this is not what
  // poll_fd() shows. For the writer.
  virtual bool takes_at_once(std::size_t /*bytes*/) const { return true; }

  // How many of the bytes that were written have reached the peer's side: grows while a large
  // message leaves. Any thread. 0: this transport cannot see it.
  virtual std::uint64_t delivered_bytes() const { return 0; }
  virtual Path path() const { return {}; }
  // Whether a write is to end only when its bytes have left but for a few, so that whoever sends
  // next over another stream finds the link free. Costs the writer wake-ups. For the writer.
  virtual void keep_little_unsent(bool /*little*/) {}

  // Ends both directions and wakes whoever waits; the peer sees the end of the stream.
  virtual void shut_down() = 0;
  // The same, and what has not left yet does not leave any more, where the transport can do that:
  // on a slow link it would delay whatever follows. The peer may see a reset. Any thread.
  virtual void abandon() { shut_down(); }

  // What a peer that does not read its replies has sent already: copies up to buffer's size without
  // consuming it, never blocks. 0: nothing yet. kDisconnected: the peer has gone.
  virtual Result<std::size_t> peek(std::span<std::byte> buffer) = 0;

  // Whether bytes that came are held inside, where poll_fd() does not show them.
  virtual bool holds_bytes() const { return false; }

  // Readable (as poll(2) sees it) when the peer has sent something or gone; -1: this transport has
  // none, and peek() must be asked now and then.
  virtual int poll_fd() const = 0;

  // nullptr where no descriptor can be passed.
  virtual DescriptorPassing* descriptors() { return nullptr; }
};

// Two ends in this process, without the kernel: what tests and simulations use. Each direction
// holds at most `capacity_bytes` before its writer waits.
std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> make_stream_pair(
    std::size_t capacity_bytes = 256u << 10);

}  // namespace outboard::wire
