// SPDX-License-Identifier: Apache-2.0
// The tensors of one connection that go by shared memory, as either side has it: memory of its own,
// which it writes what it sends to, and the peer's, which it reads what it receives from.
//
//   link->begin(connection, bytes);        // a Run's tensors are about to be written
//   auto place = link->place(size);        // aligned memory and its offset, or none: in the frame
//   ...the header with shared_offset leaves by the connection, at the other side:
//   link->view(offset, size);              // the bytes in place; hold until the next exchange
//
// A connection carries one Run at a time, so memory needs no allocator: what is written for one Run
// is free when the next begins. It grows to what a Run needs, and becomes smaller again when 64
// Runs in a row needed less than a quarter. Both ends hand their first region over with the
// handshake, which is also the proof that descriptors arrive (a proxy between two unix sockets
// would lose them). Thread-safety: as a Connection's receiving side: one thread at a time. A budget
// is shared. Errors: kInvalid: the peer's offset, size or descriptor is wrong; the connection must
// be dropped.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/limits.h"
#include "base/result.h"
#include "wire/connection.h"
#include "wire/transport/shared_memory.h"

namespace outboard::wire {

// Bytes that many connections may have together.
class SharedBytes {
 public:
  explicit SharedBytes(std::uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  bool take(std::uint64_t bytes);
  void give_back(std::uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  std::uint64_t used_bytes() const { return used_.load(std::memory_order_relaxed); }

 private:
  const std::uint64_t limit_bytes_;
  std::atomic<std::uint64_t> used_{0};
};

// What many links may have together: memory of their own, and addresses for that of their peers.
struct SharedBudget {
  explicit SharedBudget(std::uint64_t own_limit_bytes = limits::kSharedRegionBytes)
      : own(own_limit_bytes) {}
  SharedBytes own, peers{limits::kSharedPeersBytes};
};

// How large one's own region should be: pure.
class RegionSizes {
 public:
  static constexpr std::uint64_t kLeastBytes = 64u << 10, kWorthShrinkingBytes = 1u << 20;
  static constexpr unsigned kWindowRuns = 64;
  // The size to have for a Run that needs `needed_bytes` where there are `size_bytes` now.
  std::uint64_t next(std::uint64_t size_bytes, std::uint64_t needed_bytes);

 private:
  unsigned runs_ = 0;
  std::uint64_t most_needed_ = 0;  // of this window of Runs
};

class SharedLink {
 public:
  static constexpr std::uint64_t kAlignment = 64;
  // Smaller tensors go in the frame: one copy more, but no memory that both must touch.
  static constexpr std::uint64_t kLeastTensorBytes = 16u << 10;
  // Bytes of a region that a tensor takes.
  static constexpr std::uint64_t room_for(std::uint64_t size_bytes) {
    return (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  // With a first region of one's own. Borrows the budget. kOverloaded: no memory.
  static Result<std::unique_ptr<SharedLink>> make(SharedBudget& budget);
  ~SharedLink();
  SharedLink(const SharedLink&) = delete;
  SharedLink& operator=(const SharedLink&) = delete;

  // For the handshake: what the peer must get of this side, and what came from it.
  std::string feature_data() const;
  int descriptor() const { return own_.descriptor(); }
  void descriptor_sent() { own_.close_descriptor(); }
  Result<void> take_first_region(const FileDescriptor& descriptor, std::string_view feature_data);

  // ---- sending
  // What was written for the Run before is no longer needed. Announces another region where this
  // one is too small or much too large; without memory it keeps what there is.
  Result<void> begin(Connection& connection, std::uint64_t needed_bytes);
  struct Place {
    std::uint64_t offset = 0;
    std::span<std::byte> bytes;
  };
  std::optional<Place> place(std::uint64_t size_bytes);

  // ---- receiving
  // The frame kSharedRegion, whose header has just come.
  Result<void> receive_region(Connection& connection, const FrameHeader& header);
  Result<std::span<const std::byte>> view(std::uint64_t offset, std::uint64_t size_bytes) const;

 private:
  explicit SharedLink(SharedBudget& budget) : budget_(budget) {}
  Result<void> make_own(std::uint64_t size_bytes);
  Result<void> take_peer(const FileDescriptor& descriptor, std::uint64_t size_bytes);

  SharedBudget& budget_;
  SharedRegion own_;
  PeerRegion peer_;
  RegionSizes sizes_;
  std::uint64_t used_ = 0;  // of own_, by the tensors of this Run
};

}  // namespace outboard::wire
