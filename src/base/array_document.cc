// SPDX-License-Identifier: Apache-2.0
#include "base/array_document.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace outboard {
namespace {

constexpr std::string_view kTail = "\n]}\n";

// Open and locked until the end of the scope.
class LockedFile {
 public:
  explicit LockedFile(const std::string& path)
      : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    while (fd_ >= 0 && ::flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~LockedFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  LockedFile(const LockedFile&) = delete;
  LockedFile& operator=(const LockedFile&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

tl::unexpected<Error> cannot_write(const std::string& path) {
  return error(ErrorKind::kInvalid, "file ({}) cannot be written: {}", path,
               std::generic_category().message(errno));
}

Result<void> write_at(int fd, off_t offset, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t written = ::pwrite(fd, text.data(), text.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return cannot_write(path);
    text.remove_prefix(static_cast<std::size_t>(written));
    offset += written;
  }
  return {};
}

Result<std::string> read_all(int fd, const std::string& path) {
  struct stat status{};
  if (fd < 0 || ::fstat(fd, &status) != 0) return cannot_write(path);
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t got =
        ::pread(fd, text.data() + have, text.size() - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return cannot_write(path);
    have += static_cast<std::size_t>(got);
  }
  return text;
}

Result<void> append(int fd, const std::string& path, std::string_view head,
                    std::string_view entries) {
  struct stat status{};
  if (fd < 0 || ::fstat(fd, &status) != 0) return cannot_write(path);
  const auto empty_size = static_cast<off_t>(head.size() + kTail.size());
  std::string text;
  off_t at = 0;
  if (status.st_size < empty_size) {
    text.append(head).append("\n");
  } else {
    at = status.st_size - static_cast<off_t>(kTail.size());
    text.append(status.st_size == empty_size ? "\n" : ",\n");
  }
  return write_at(fd, at, text.append(entries).append(kTail), path);
}

}  // namespace

Result<void> create_array_document(const std::string& path, std::string_view head) {
  const LockedFile file(path);
  if (file.fd() < 0) return cannot_write(path);
  // A pipe or a terminal cannot be added to.
  struct stat status{};
  if (::fstat(file.fd(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return error(ErrorKind::kInvalid, "file ({}) must be a regular file", path);
  }
  if (::ftruncate(file.fd(), 0) != 0) return cannot_write(path);
  return write_at(file.fd(), 0, std::string(head).append(kTail), path);
}

Result<void> append_to_array_document(const std::string& path, std::string_view head,
                                      std::string_view entries) {
  const LockedFile file(path);
  return append(file.fd(), path, head, entries);
}

Result<void> replace_in_array_document(const std::string& path, std::string_view head,
                                       std::string_view before, std::string_view entries) {
  const LockedFile file(path);
  std::string text;
  if (!before.empty()) {
    OB_TRY(text, read_all(file.fd(), path));
  }
  const std::size_t at = before.empty() ? std::string::npos : text.find(before);
  if (at == std::string::npos) return append(file.fd(), path, head, entries);
  text.replace(at, before.size(), entries);
  OB_CHECK_OK(write_at(file.fd(), static_cast<off_t>(at), std::string_view(text).substr(at), path));
  if (::ftruncate(file.fd(), static_cast<off_t>(text.size())) != 0) return cannot_write(path);
  return {};
}

}  // namespace outboard
