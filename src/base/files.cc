// SPDX-License-Identifier: Apache-2.0
#include "base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>

namespace outboard {

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

tl::unexpected<Error> file_error(std::string_view doing, const std::string& path, int code) {
  const bool full = code == ENOSPC || code == EDQUOT;
  return error(full ? ErrorKind::kOverloaded : ErrorKind::kInternal, "{} ({}) failed: {}", doing,
               path, std::generic_category().message(code));
}

Result<File> open_file(const std::string& path, int flags) {
  File file(::open(path.c_str(), flags | O_CLOEXEC, 0600));
  if (!file.is_open()) return file_error("opening", path, errno);
  return file;
}

Result<void> write_at(const File& file, const std::string& path, std::uint64_t offset,
                      std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error("writing", path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<void> read_at(const File& file, const std::string& path, std::uint64_t offset,
                     std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error("reading", path, errno);
    if (n == 0) return error(ErrorKind::kInternal, "file ({}) is shorter than expected", path);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<std::string> read_file(const std::string& path, std::size_t limit_bytes) {
  OB_TRY(const File file, open_file(path, O_RDONLY));
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  if (size < 0) return file_error("reading", path, errno);
  if (static_cast<std::uint64_t>(size) > limit_bytes)
    return error(ErrorKind::kInternal, "file ({}) has {} bytes; expected at most {}", path, size,
                 limit_bytes);
  std::string content(static_cast<std::size_t>(size), '\0');
  OB_CHECK_OK(read_at(file, path, 0, std::as_writable_bytes(std::span(content))));
  return content;
}

Result<void> sync_file(const File& file, const std::string& path) {
  if (::fsync(file.get()) != 0) return file_error("syncing", path, errno);
  return {};
}

Result<void> sync_folder(const std::string& path) {
  OB_TRY(const File folder, open_file(path, O_RDONLY | O_DIRECTORY));
  return sync_file(folder, path);
}

Result<void> rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return file_error("renaming to", to, errno);
  return {};
}

Result<void> make_folders(const std::string& path) {
  std::error_code code;
  std::filesystem::create_directories(path, code);
  if (code) return file_error("making the folder", path, code.value());
  return {};
}

Result<void> write_file_atomically(const std::string& path, std::string_view content) {
  const std::string beside = path + ".new";
  OB_TRY(const File file, open_file(beside, O_WRONLY | O_CREAT | O_TRUNC));
  OB_CHECK_OK(write_at(file, beside, 0, std::as_bytes(std::span(content))));
  OB_CHECK_OK(sync_file(file, beside));
  return rename_path(beside, path);
}

Result<void> write_secret_file(const std::string& path, std::string_view content) {
  const std::string beside = path + ".new";
  ::unlink(beside.c_str());  // what an interrupted one left may have another mode
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return file_error("opening", beside, errno);
  const File file(fd);
  OB_CHECK_OK(write_at(file, beside, 0, std::as_bytes(std::span(content))));
  OB_CHECK_OK(sync_file(file, beside));
  return rename_path(beside, path);
}

Result<void> write_file_unsynced(const std::string& path, std::span<const std::byte> content) {
  static std::atomic<unsigned> count{0};
  const std::string beside = fmt::format("{}.new-{}-{}", path, ::getpid(), ++count);
  ::unlink(beside.c_str());
  const auto written = [&]() -> Result<void> {
    OB_TRY(const File file, open_file(beside, O_WRONLY | O_CREAT | O_EXCL));
    OB_CHECK_OK(write_at(file, beside, 0, content));
    return rename_path(beside, path);
  }();
  if (!written) ::unlink(beside.c_str());
  return written;
}

std::int64_t now_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace outboard
