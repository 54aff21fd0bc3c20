// SPDX-License-Identifier: Apache-2.0
// A piece of memory that one process writes and another one on the same host reads: a memfd whose
// descriptor travels over a unix socket. What is in it is data and nothing else: sizes, offsets and
// headers travel by the socket, where they are copied before they are checked.
//
// The writer's memory can neither shrink nor grow (seals), so the reader's mapping is always backed
// (no SIGBUS); the reader asks for the seal, the size and the kind of file itself and believes
// nobody. The reader cannot write to it (F_SEAL_FUTURE_WRITE; Linux 5.1, older ones get no shared
// memory). A writer that goes on writing while it is read changes what is read: who must
// not be exposed to that copies first (serve/peer_run.cc decides).
// Descriptors are closed as soon as they are not needed; mappings go with the objects, with the
// process, and are not inherited by fork(). So nothing is left behind when either side dies.
// Thread-safety: plain values; one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "wire/transport/file_descriptor.h"

namespace outboard::wire {

// An address range that is unmapped at the end.
class Mapping {
 public:
  Mapping() = default;
  // `size_bytes` > 0. `writable`: PROT_WRITE, too. kOverloaded where there is no room.
  static Result<Mapping> map(int fd, std::uint64_t size_bytes, bool writable);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  Mapping(std::byte* data, std::size_t size) : data_(data), size_(size) {}
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// The writer's end.
class SharedRegion {
 public:
  SharedRegion() = default;
  // Zeroes, of which the kernel takes a page as it is first written to. kOverloaded: no memory, no
  // descriptor left, or a kernel that cannot seal it.
  static Result<SharedRegion> create(std::uint64_t size_bytes);
  std::span<std::byte> bytes() const { return {mapping_.data(), mapping_.size()}; }
  std::uint64_t size() const { return mapping_.size(); }
  // What the peer must get; close_descriptor() when it has been sent.
  int descriptor() const { return descriptor_.get(); }
  void close_descriptor() { descriptor_ = FileDescriptor(); }

 private:
  FileDescriptor descriptor_;
  Mapping mapping_;
};

// The reader's end.
class PeerRegion {
 public:
  PeerRegion() = default;
  // kInvalid: not a memfd of this size that is sealed against shrinking.
  static Result<PeerRegion> map(const FileDescriptor& descriptor, std::uint64_t size_bytes);
  std::span<const std::byte> bytes() const { return {mapping_.data(), mapping_.size()}; }
  std::uint64_t size() const { return mapping_.size(); }

 private:
  Mapping mapping_;
};

}  // namespace outboard::wire
