// SPDX-License-Identifier: Apache-2.0
#include "wire/transport/shared_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/limits.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace outboard::wire {
namespace {

std::string reason(int code) { return std::generic_category().message(code); }

}  // namespace

Result<Mapping> Mapping::map(int fd, std::uint64_t size_bytes, bool writable) {
  void* const memory =
      ::mmap(nullptr, size_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED)
    return error(ErrorKind::kOverloaded, "shared memory ({} bytes) cannot be mapped: {}",
                 size_bytes, reason(errno));
  // A child that a fork makes has connections of its own.
  ::madvise(memory, size_bytes, MADV_DONTFORK);
  return Mapping(static_cast<std::byte*>(memory), size_bytes);
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<SharedRegion> SharedRegion::create(std::uint64_t size_bytes) {
  if (size_bytes == 0 || size_bytes > limits::kSharedRegionBytes)
    return error(ErrorKind::kOverloaded, "shared memory ({} bytes) must be from 1 to {} bytes",
                 size_bytes, limits::kSharedRegionBytes);
  SharedRegion region;
  region.descriptor_ = FileDescriptor(::memfd_create("outboard", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const int fd = region.descriptor_.get();
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(size_bytes)) != 0)
    return error(ErrorKind::kOverloaded, "shared memory ({} bytes) cannot be made: {}", size_bytes,
                 reason(errno));
  // Our own mapping comes first: no writable one can be made afterwards.
  OB_TRY(region.mapping_, Mapping::map(fd, size_bytes, /*writable=*/true));
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
  if (::fcntl(fd, F_ADD_SEALS, kSeals) != 0)
    return error(ErrorKind::kOverloaded, "shared memory cannot be sealed: {}", reason(errno));
  return region;
}

Result<PeerRegion> PeerRegion::map(const FileDescriptor& descriptor, std::uint64_t size_bytes) {
  const int fd = descriptor.get();
  if (fd < 0) return error(ErrorKind::kInvalid, "shared memory must come with a descriptor");
  if (size_bytes == 0 || size_bytes > limits::kSharedRegionBytes)
    return error(ErrorKind::kInvalid, "shared memory ({} bytes) must be from 1 to {} bytes",
                 size_bytes, limits::kSharedRegionBytes);
  // Ordinary pages only: a file of huge pages, of a FUSE file system or of a disk can fail to
  // answer a read of its mapping, whatever its size.
  struct statfs system{};
  if (::fstatfs(fd, &system) != 0 || system.f_type != TMPFS_MAGIC)
    return error(ErrorKind::kInvalid, "shared memory must be a memfd of ordinary pages");
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    return error(ErrorKind::kInvalid, "shared memory must be sealed against shrinking");
  // After the seal: from there on it cannot become less. Not fstat(), which libraries make a call
  // by name, and a sandboxed process may make none.
  const off_t end = ::lseek(fd, 0, SEEK_END);
  if (end < 0 || static_cast<std::uint64_t>(end) < size_bytes)
    return error(ErrorKind::kInvalid, "shared memory has {} bytes where {} were announced",
                 static_cast<std::int64_t>(end), size_bytes);
  PeerRegion region;
  OB_TRY(region.mapping_, Mapping::map(fd, size_bytes, /*writable=*/false));
  return region;
}

}  // namespace outboard::wire
