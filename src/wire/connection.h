// SPDX-License-Identifier: Apache-2.0
// Frames over a stream: used by both sides. Small frames cost one read and one write; the bytes of
// large tensors go straight between the stream and the caller's memory.
//
// Thread-safety: receiving by one thread at a time; send() by any thread (frames do not mix), so
// that a heartbeat or a cancel can leave while another thread waits. shut_down() from any thread.
// Errors: those of Stream, and kInvalid for bytes that are no frame. After any error of a receive
// the connection must be dropped: the stream is out of step.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/frame.h"
#include "wire/patience.h"
#include "wire/transport/shared_memory.h"
#include "wire/transport/stream.h"

namespace outboard::wire {

class Connection {
 public:
  explicit Connection(std::unique_ptr<Stream> stream);
  // From now on receive_header() looks before it sleeps where that pays. Borrows the slots.
  void look_before_sleeping(LookingSlots& slots);

  // Sends header and parts in one go; header.length is set to the parts' sum. Borrows the parts.
  Result<void> send(FrameHeader header, std::span<const iovec> parts);
  Result<void> send(FrameHeader header, std::string_view payload = {});
  // A small frame with which the peer gets a descriptor; only where stream().descriptors() is.
  Result<void> send_with(FrameHeader header, std::string_view payload, int descriptor);
  // The same, but it leaves with the next frame that is sent.
  void hold(FrameHeader header, std::string_view payload);
  Result<void> flush();  // sends what is held
  // Both sides agreed to go on over rings: nothing may be buffered, held or under way.
  void use_rings(SharedRegion own, PeerRegion peer);
  // A small frame, unless another thread is sending or a ring is full: then false, and nothing was
  // sent.
  bool try_send(FrameHeader header, std::string_view payload = {});

  // The next frame's header. Its payload must be taken, read or skipped before the next one.
  // After kTimeout with nothing buffered the peer is merely idle, and it may be called again.
  Result<FrameHeader> receive_header();
  // Exactly this many bytes of the current payload, into the caller's memory.
  Result<void> read(std::span<std::byte> destination);
  Result<std::string> read_string(std::uint64_t size_bytes);
  Result<void> skip(std::uint64_t size_bytes);
  // What is left of the current payload.
  std::uint64_t payload_left() const { return payload_left_; }

  Stream& stream() { return *stream_; }
  void shut_down() { bottom_->shut_down(); }  // any thread
  void abandon() { bottom_->abandon(); }      // any thread
  // Whether bytes that the peer sent ahead lie in the buffer (a watcher must look there first).
  std::size_t buffered_bytes() const { return end_ - begin_; }
  // The same bytes; they hold until the next receive.
  std::span<const std::byte> buffered() const {
    return std::span(buffer_).subspan(begin_, end_ - begin_);
  }

  // Grows while bytes of a large message leave or come. Any thread.
  std::uint64_t moved_bytes() const { return stream_->delivered_bytes() + arrived_bytes_; }

  Path path() const { return bottom_->path(); }
  void keep_little_unsent(bool little) { bottom_->keep_little_unsent(little); }

  // Counters of both directions, frame headers included; for one Run's account and for tests.
  std::uint64_t frames_sent() const { return frames_sent_; }
  std::uint64_t frames_received() const { return frames_received_; }
  std::uint64_t bytes_sent() const { return bytes_sent_; }
  std::uint64_t bytes_received() const { return bytes_received_; }

 private:
  Result<void> fill(std::size_t at_least);
  Result<std::size_t> wait_and_read(std::span<const iovec> space);

  std::unique_ptr<Stream> stream_;
  Stream* const bottom_;  // what it was made with: stream_, or below it
  std::mutex send_mutex_;
  std::string held_;  // under send_mutex_
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // unread bytes of buffer_
  std::uint64_t payload_left_ = 0;
  LookingSlots* looking_slots_ = nullptr;
  Patience patience_;
  std::atomic<std::uint64_t> frames_sent_{0}, bytes_sent_{0}, arrived_bytes_{0};
  std::uint64_t frames_received_ = 0, bytes_received_ = 0;
};

}  // namespace outboard::wire
