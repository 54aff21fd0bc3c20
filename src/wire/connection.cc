// SPDX-License-Identifier: Apache-2.0
#include "wire/connection.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/limits.h"
#include "wire/transport/ring_stream.h"

namespace outboard::wire {

Connection::Connection(std::unique_ptr<Stream> stream)
    : stream_(std::move(stream)), bottom_(stream_.get()), buffer_(limits::kReceiveBufferBytes) {}

Result<void> Connection::send(FrameHeader header, std::span<const iovec> parts) {
  constexpr std::size_t kInlineParts = 16;  // most Runs have fewer tensors: no allocation
  std::array<iovec, kInlineParts + 2> inline_parts;
  std::vector<iovec> many_parts;
  iovec* all = inline_parts.data();
  if (parts.size() > kInlineParts) {
    many_parts.resize(parts.size() + 2);
    all = many_parts.data();
  }
  header.length = 0;
  std::size_t count = 2;  // behind what is held, and the header
  for (const iovec& part : parts) {
    header.length += part.iov_len;
    if (part.iov_len > 0) all[count++] = part;
  }
  std::array<std::byte, kFrameHeaderBytes> bytes = encode(header);
  all[1] = {bytes.data(), bytes.size()};

  const std::lock_guard lock(send_mutex_);
  all[0] = {held_.data(), held_.size()};
  OB_CHECK_OK(stream_->write_all(std::span(all, count).subspan(held_.empty() ? 1 : 0)));
  if (!held_.empty()) held_ = {};
  frames_sent_.fetch_add(1, std::memory_order_relaxed);
  bytes_sent_.fetch_add(kFrameHeaderBytes + header.length, std::memory_order_relaxed);
  return {};
}

Result<void> Connection::send(FrameHeader header, std::string_view payload) {
  const iovec part{const_cast<char*>(payload.data()), payload.size()};
  return send(header, std::span(&part, 1));
}

Result<void> Connection::send_with(FrameHeader header, std::string_view payload, int descriptor) {
  OB_CHECK(stream_->descriptors() != nullptr);
  header.length = payload.size();
  std::array<std::byte, kFrameHeaderBytes> bytes = encode(header);
  std::array<iovec, 2> parts{
      {{bytes.data(), bytes.size()}, {const_cast<char*>(payload.data()), payload.size()}}};
  const std::lock_guard lock(send_mutex_);
  OB_CHECK_OK(stream_->descriptors()->write_all_with(parts, descriptor));
  frames_sent_.fetch_add(1, std::memory_order_relaxed);
  bytes_sent_.fetch_add(kFrameHeaderBytes + header.length, std::memory_order_relaxed);
  return {};
}

void Connection::hold(FrameHeader header, std::string_view payload) {
  header.length = payload.size();
  const std::array<std::byte, kFrameHeaderBytes> bytes = encode(header);
  const std::lock_guard lock(send_mutex_);
  held_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size()).append(payload);
  frames_sent_.fetch_add(1, std::memory_order_relaxed);
  bytes_sent_.fetch_add(kFrameHeaderBytes + header.length, std::memory_order_relaxed);
}

Result<void> Connection::flush() {
  const std::lock_guard lock(send_mutex_);
  if (held_.empty()) return {};
  iovec part{held_.data(), held_.size()};
  OB_CHECK_OK(stream_->write_all(std::span(&part, 1)));
  held_ = {};
  return {};
}

bool Connection::try_send(FrameHeader header, std::string_view payload) {
  header.length = payload.size();
  std::array<std::byte, kFrameHeaderBytes> bytes = encode(header);
  std::array<iovec, 2> parts{
      {{bytes.data(), bytes.size()}, {const_cast<char*>(payload.data()), payload.size()}}};
  const std::unique_lock lock(send_mutex_, std::try_to_lock);
  if (!lock.owns_lock() || !held_.empty() ||
      !stream_->takes_at_once(kFrameHeaderBytes + payload.size()) ||
      !stream_->write_all(std::span(parts).first(payload.empty() ? 1 : 2)))
    return false;
  frames_sent_.fetch_add(1, std::memory_order_relaxed);
  bytes_sent_.fetch_add(kFrameHeaderBytes + header.length, std::memory_order_relaxed);
  return true;
}

void Connection::look_before_sleeping(LookingSlots& slots) {
  if (stream_->can_look()) looking_slots_ = &slots;
}

void Connection::use_rings(SharedRegion own, PeerRegion peer) {
  const std::lock_guard lock(send_mutex_);
  OB_CHECK(held_.empty() && begin_ == end_ && payload_left_ == 0);
  stream_ = make_ring_stream(std::move(stream_), std::move(own), std::move(peer));
}

// A read at a frame's start, which may take any time: see patience.h.
Result<std::size_t> Connection::wait_and_read(std::span<const iovec> space) {
  if (looking_slots_ == nullptr) return stream_->read_some(space);
  const Clock& clock = Clock::monotonic();
  const Nanoseconds start = clock.now();
  if (patience_.is_worth_looking() && looking_slots_->take()) {
    Result<std::size_t> n = std::size_t{0};
    do {
      n = stream_->read_what_is_there(space);
      if (n && *n == 0) ::sched_yield();
    } while (n && *n == 0 && clock.now() - start < Patience::kLook);
    looking_slots_->give_back();
    if (!n || *n > 0) {
      patience_.came_after(Nanoseconds::zero());
      return n;
    }
    patience_.looked_in_vain();
    return stream_->read_some(space);
  }
  auto n = stream_->read_some(space);
  patience_.came_after(clock.now() - start);
  return n;
}

// Makes at least this many bytes lie in the buffer.
Result<void> Connection::fill(std::size_t at_least) {
  OB_CHECK(at_least <= buffer_.size());
  while (end_ - begin_ < at_least) {
    if (begin_ == end_) begin_ = end_ = 0;
    if (buffer_.size() - begin_ < at_least) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    const iovec space{buffer_.data() + end_, buffer_.size() - end_};
    OB_TRY(const std::size_t n, begin_ == end_ ? wait_and_read(std::span(&space, 1))
                                               : stream_->read_some(std::span(&space, 1)));
    end_ += n;
    arrived_bytes_.fetch_add(n, std::memory_order_relaxed);
  }
  return {};
}

Result<FrameHeader> Connection::receive_header() {
  OB_CHECK(payload_left_ == 0);
  OB_CHECK_OK(fill(kFrameHeaderBytes));
  const std::span<const std::byte, kFrameHeaderBytes> bytes(buffer_.data() + begin_,
                                                            kFrameHeaderBytes);
  OB_TRY(const FrameHeader header, decode_frame_header(bytes));
  begin_ += kFrameHeaderBytes;
  payload_left_ = header.length;
  ++frames_received_;
  bytes_received_ += kFrameHeaderBytes + header.length;
  return header;
}

Result<void> Connection::read(std::span<std::byte> destination) {
  if (destination.size() > payload_left_)
    return error(ErrorKind::kInvalid, "frame has {} bytes left where {} were expected",
                 payload_left_, destination.size());
  payload_left_ -= destination.size();
  const std::size_t buffered = std::min(destination.size(), end_ - begin_);
  if (buffered > 0) std::memcpy(destination.data(), buffer_.data() + begin_, buffered);
  begin_ += buffered;
  destination = destination.subspan(buffered);
  while (!destination.empty()) {
    // What is wanted goes straight to its place; what the peer sent beyond it, into the buffer.
    const std::array<iovec, 2> space{
        {{destination.data(), destination.size()}, {buffer_.data(), buffer_.size()}}};
    OB_TRY(const std::size_t n, stream_->read_some(space));
    arrived_bytes_.fetch_add(n, std::memory_order_relaxed);
    const std::size_t wanted = std::min(n, destination.size());
    destination = destination.subspan(wanted);
    begin_ = 0;
    end_ = n - wanted;
  }
  return {};
}

Result<std::string> Connection::read_string(std::uint64_t size_bytes) {
  if (size_bytes > payload_left_)
    return error(ErrorKind::kInvalid, "frame has {} bytes left where {} were expected",
                 payload_left_, size_bytes);
  // Grows as the bytes come: a peer that only claims a size costs nothing.
  std::string text;
  constexpr std::uint64_t kStep = 1u << 20;
  while (text.size() < size_bytes) {
    const std::size_t before = text.size(), step = std::min(kStep, size_bytes - before);
    text.resize(before + step);
    OB_CHECK_OK(read({reinterpret_cast<std::byte*>(text.data()) + before, step}));
  }
  return text;
}

Result<void> Connection::skip(std::uint64_t size_bytes) {
  std::array<std::byte, 4096> sink;
  while (size_bytes > 0) {
    const std::size_t step = std::min<std::uint64_t>(sink.size(), size_bytes);
    OB_CHECK_OK(read(std::span(sink).first(step)));
    size_bytes -= step;
  }
  return {};
}

}  // namespace outboard::wire
