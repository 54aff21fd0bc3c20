// SPDX-License-Identifier: Apache-2.0
// Tensors that the other side has already travel as their SHA-256. Both ends of one connection
// keep the same kind of list; a server never looks beyond its own connection's, so nobody learns
// by a hash whether somebody else sent a tensor.
//
// Not thread-safe: each belongs to a connection. Sizes in bytes.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/sha256.h"

namespace outboard::wire {

// 64 bits over some of the bytes, spread over all of the tensor: equal tensors have equal ones.
// Costs the same for any size; says only whether a hash of everything may be worth while.
std::uint64_t fingerprint(std::span<const std::byte> bytes);

// The client's side: what it may refer to, and whether it should.
class KnownMirror {
 public:
  enum class Decision : std::uint8_t {
    kSend,   // as any other
    kKeep,   // the server shall keep it: it came before
    kRefer,  // the server should have it
  };
  explicit KnownMirror(std::uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  std::uint64_t limit_bytes() const { return limit_bytes_; }
  // Whether this slot (an input of a session) had the same fingerprint lately; remembers it.
  bool seen(std::uint64_t slot, std::uint64_t print);
  // After seen(): what to do with this content.
  Decision decide(std::uint64_t slot, const Sha256& hash, std::uint64_t size_bytes);
  void forget(const Sha256& hash);  // the server did not have it

 private:
  static constexpr std::size_t kPrints = 8;  // remembered for each slot
  static constexpr unsigned kFruitless = 4;  // kept in a row and never referred to:
  static constexpr unsigned kPause = 64;     // so many Runs without a try
  struct Slot {
    std::array<std::uint64_t, kPrints> prints{};
    std::size_t next = 0;
    unsigned fruitless = 0, pause = 0;
  };
  struct Entry {
    Sha256 hash;
    std::uint64_t size_bytes;
  };
  const std::uint64_t limit_bytes_;
  std::uint64_t used_bytes_ = 0;
  std::list<Entry> entries_;  // the latest used first
  std::map<std::uint64_t, Slot> slots_;
};

// The server's side: the tensors themselves, least recently used first to go.
class KnownTensors {
 public:
  // `total`: what all connections keep together, at most `total_limit_bytes`.
  KnownTensors(std::uint64_t limit_bytes, std::atomic<std::uint64_t>& total,
               std::uint64_t total_limit_bytes)
      : limit_bytes_(limit_bytes), total_limit_bytes_(total_limit_bytes), total_(total) {}
  ~KnownTensors();
  KnownTensors(const KnownTensors&) = delete;
  KnownTensors& operator=(const KnownTensors&) = delete;

  // Copies and hashes. Nothing happens where there is no room.
  void keep(std::span<const std::byte> bytes);
  // Lives as long as the caller holds it. nullptr: not there, or of another size.
  std::shared_ptr<const std::vector<std::byte>> find(const Sha256& hash, std::uint64_t size_bytes);
  std::uint64_t used_bytes() const { return used_bytes_; }

 private:
  struct Entry {
    Sha256 hash;
    std::shared_ptr<const std::vector<std::byte>> bytes;
  };
  bool make_room(std::uint64_t size_bytes);

  const std::uint64_t limit_bytes_, total_limit_bytes_;
  std::atomic<std::uint64_t>& total_;
  std::uint64_t used_bytes_ = 0;
  std::list<Entry> entries_;  // the latest used first
};

}  // namespace outboard::wire
