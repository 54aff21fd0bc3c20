// SPDX-License-Identifier: Apache-2.0
// The few file operations that stores and state folders need, with errors as sentences.
// Thread-safe. Errors: kOverloaded when the disk is full (later there may be room), else
// kInternal, with the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace outboard {

class File {  // an owned descriptor
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~File();
  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

tl::unexpected<Error> file_error(std::string_view doing, const std::string& path, int code);

Result<File> open_file(const std::string& path, int flags);
Result<void> write_at(const File& file, const std::string& path, std::uint64_t offset,
                      std::span<const std::byte> bytes);
// Exactly that many bytes.
Result<void> read_at(const File& file, const std::string& path, std::uint64_t offset,
                     std::span<std::byte> bytes);
Result<std::string> read_file(const std::string& path, std::size_t limit_bytes);
Result<void> sync_file(const File& file, const std::string& path);
Result<void> sync_folder(const std::string& path);
Result<void> rename_path(const std::string& from, const std::string& to);
Result<void> make_folders(const std::string& path);
// Writes beside `path`, syncs and renames: readers see the old content or the new one.
Result<void> write_file_atomically(const std::string& path, std::string_view content);
// The same for a file that only its owner may read (mode 0600).
Result<void> write_secret_file(const std::string& path, std::string_view content);
// For what its reader verifies: beside `path` under a name of its own, so that several processes
// may write the same file, and renamed; not synced, so a power cut may leave a torn one.
Result<void> write_file_unsynced(const std::string& path, std::span<const std::byte> content);
std::int64_t now_s();  // wall clock, seconds: for the order of use, which outlives a start

}  // namespace outboard
