// SPDX-License-Identifier: Apache-2.0
#include "wire/coding/known.h"

#include <algorithm>
#include <cstring>

namespace outboard::wire {
namespace {

constexpr std::size_t kSlots = 4096;  // of a mirror: beyond that it begins anew

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {  // Murmur3's finaliser over a combination
  std::uint64_t z = (a ^ b) * 0xFF51AFD7ED558CCD;
  z = (z ^ (z >> 33)) * 0xC4CEB9FE1A85EC53;
  return z ^ (z >> 33);
}

}  // namespace

std::uint64_t fingerprint(std::span<const std::byte> bytes) {
  constexpr std::size_t kWords = 128;
  std::uint64_t print = bytes.size();
  if (bytes.size() < 8) {
    for (const std::byte byte : bytes) print = mix(print, static_cast<std::uint64_t>(byte));
    return print;
  }
  const std::size_t last = bytes.size() - 8;
  for (std::size_t i = 0; i < kWords; ++i) {
    std::uint64_t word = 0;
    // Evenly spread; not by a power of two, which rows of a picture like.
    std::memcpy(&word, bytes.data() + last * i / (kWords - 1), sizeof word);
    print = mix(print, word);
  }
  return print;
}

bool KnownMirror::seen(std::uint64_t slot, std::uint64_t print) {
  if (slots_.size() > kSlots) slots_.clear();
  Slot& s = slots_[slot];
  if (s.pause > 0) {
    --s.pause;
    return false;
  }
  if (std::find(s.prints.begin(), s.prints.end(), print) != s.prints.end()) return true;
  s.prints[s.next++ % kPrints] = print;
  return false;
}

KnownMirror::Decision KnownMirror::decide(std::uint64_t slot, const Sha256& hash,
                                          std::uint64_t size_bytes) {
  Slot& s = slots_[slot];
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.hash == hash; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    s.fruitless = 0;
    return Decision::kRefer;
  }
  if (size_bytes > limit_bytes_) return Decision::kSend;
  // Only alike where the fingerprint looks, like frames of a camera at night: it is not worth it.
  if (++s.fruitless > kFruitless) {
    s.fruitless = 0;
    s.pause = kPause;
    return Decision::kSend;
  }
  entries_.push_front({hash, size_bytes});
  used_bytes_ += size_bytes;
  while (used_bytes_ > limit_bytes_) {
    used_bytes_ -= entries_.back().size_bytes;
    entries_.pop_back();
  }
  return Decision::kKeep;
}

void KnownMirror::forget(const Sha256& hash) {
  std::erase_if(entries_, [&](const Entry& entry) {
    if (entry.hash != hash) return false;
    used_bytes_ -= entry.size_bytes;
    return true;
  });
}

KnownTensors::~KnownTensors() { total_.fetch_sub(used_bytes_); }

bool KnownTensors::make_room(std::uint64_t size_bytes) {
  if (size_bytes > limit_bytes_) return false;
  const auto drop_oldest = [&] {
    const std::uint64_t size = entries_.back().bytes->size();
    used_bytes_ -= size;
    total_.fetch_sub(size);
    entries_.pop_back();
  };
  while (used_bytes_ + size_bytes > limit_bytes_) drop_oldest();
  // All connections together: room is made at this one's cost alone.
  while (total_.fetch_add(size_bytes) + size_bytes > total_limit_bytes_) {
    total_.fetch_sub(size_bytes);
    if (entries_.empty()) return false;
    drop_oldest();
  }
  used_bytes_ += size_bytes;
  return true;
}

void KnownTensors::keep(std::span<const std::byte> bytes) {
  if (bytes.size() > limit_bytes_) return;
  const Sha256 hash = sha256(bytes);
  if (find(hash, bytes.size()) || !make_room(bytes.size())) return;
  entries_.push_front(
      {hash, std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end())});
}

std::shared_ptr<const std::vector<std::byte>> KnownTensors::find(const Sha256& hash,
                                                                 std::uint64_t size_bytes) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.hash == hash; });
  if (found == entries_.end() || found->bytes->size() != size_bytes) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return entries_.front().bytes;
}

}  // namespace outboard::wire
