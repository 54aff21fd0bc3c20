// SPDX-License-Identifier: Apache-2.0
#include "wire/model_package.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace outboard::wire {
namespace {

namespace fs = std::filesystem;

std::string reason(int code) { return std::generic_category().message(code); }

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

// A file's content mapped for reading; empty for an empty file.
class Mapping {
 public:
  Mapping(int fd, std::size_t size) : size_(size) {
    if (size_ > 0) data_ = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (is_valid() && size_ > 0) ::munmap(data_, size_);
  }
  bool is_valid() const { return data_ != MAP_FAILED; }
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  std::size_t size_;
};

// What tells one content of a file from another without reading it.
using Identity = std::tuple<dev_t, ino_t, off_t, std::int64_t, std::int64_t>;

Identity identity_of(const struct stat& s) {
  const auto ns = [](const timespec& t) {
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
  };
  return {s.st_dev, s.st_ino, s.st_size, ns(s.st_mtim), ns(s.st_ctim)};
}

class HashCache {
 public:
  std::optional<Sha256> find(const Identity& identity) {
    const std::lock_guard lock(mutex_);
    const auto it = hashes_.find(identity);
    if (it == hashes_.end()) return std::nullopt;
    return it->second;
  }
  void put(const Identity& identity, const Sha256& hash) {
    const std::lock_guard lock(mutex_);
    hashes_.emplace(identity, hash);
  }
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
  std::map<Identity, Sha256> hashes_;
};

// One a process, never destroyed: threads may outlive main(). fork() waits for whoever is in it, so
// that the child finds it free.
HashCache& hash_cache() {
  static auto* cache = [] {
    static auto* fresh = new HashCache;
    pthread_atfork([] { fresh->lock(); }, [] { fresh->unlock(); }, [] { fresh->unlock(); });
    return fresh;
  }();
  return *cache;
}

// Reads with pread: a file that shrinks meanwhile is an error here, where a mapping would be a
// SIGBUS.
Result<Sha256> hash_file(int fd, std::uint64_t size, const std::string& path) {
  Sha256Hasher hasher;
  std::vector<std::byte> chunk(1u << 20);
  for (std::uint64_t offset = 0; offset < size;) {
    const ssize_t n =
        ::pread(fd, chunk.data(), std::min<std::uint64_t>(chunk.size(), size - offset),
                static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return error(ErrorKind::kInvalid, "model file ({}) cannot be read: {}", path,
                   n < 0 ? reason(errno) : "it shrank");
    hasher.update(std::span(chunk).first(static_cast<std::size_t>(n)));
    offset += static_cast<std::uint64_t>(n);
  }
  return hasher.finish();
}

struct Part {
  File file;
  std::string path;  // as it was opened; empty for a spool
  Identity identity;
};

Result<std::pair<Part, ModelFile>> open_part(const std::string& path, std::string name) {
  File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd() < 0) {
    const auto kind =
        errno == ENOENT || errno == ENOTDIR ? ErrorKind::kNotFound : ErrorKind::kInvalid;
    return error(kind, "model file ({}) cannot be opened: {}", path, reason(errno));
  }
  struct stat status{};
  if (::fstat(file.fd(), &status) != 0 || !S_ISREG(status.st_mode))
    return error(ErrorKind::kInvalid, "model file ({}) must be a regular file", path);
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > limits::kModelFileBytes)
    return error(ErrorKind::kInvalid, "model file ({}) must have at most {} bytes, not {}", path,
                 limits::kModelFileBytes, size);
  const Identity identity = identity_of(status);
  auto hash = hash_cache().find(identity);
  if (!hash) {
    OB_TRY(hash, hash_file(file.fd(), size, path));
    hash_cache().put(identity, *hash);
  }
  return std::pair{Part{std::move(file), path, identity}, ModelFile{std::move(name), size, *hash}};
}

class Package final : public ModelPackage {
 public:
  Package(std::vector<Part> parts, ModelManifest manifest, std::span<const std::byte> borrowed)
      : parts_(std::move(parts)), manifest_(std::move(manifest)), borrowed_(borrowed) {
    id_ = manifest_.id();
  }

  const ModelManifest& manifest() const override { return manifest_; }
  bool can_open_locally() const override { return parts_.front().file.fd() >= 0; }

  Result<std::size_t> read_at(std::size_t index, std::uint64_t offset,
                              std::span<std::byte> out) const override {
    OB_CHECK(index < parts_.size());
    if (parts_[index].file.fd() < 0) return read_borrowed(offset, out);
    std::size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = ::pread(parts_[index].file.fd(), out.data() + done, out.size() - done,
                                static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0)
        return error(ErrorKind::kInvalid, "model file ({}) cannot be read: {}", parts_[index].path,
                     reason(errno));
      if (n == 0) break;
      done += static_cast<std::size_t>(n);
    }
    return done;
  }

  Result<std::string> path_for_local_open() const override {
    if (!can_open_locally())
      return error(ErrorKind::kInvalid,
                   "model was given as bytes and no copy was kept (spool none)");
    for (std::size_t i = 0; i < parts_.size(); ++i) OB_CHECK_OK(check_unchanged(i));
    const Part& model = parts_.front();
    struct stat status{};
    const bool path_is_ours = !model.path.empty() && ::stat(model.path.c_str(), &status) == 0 &&
                              status.st_dev == std::get<0>(model.identity) &&
                              status.st_ino == std::get<1>(model.identity);
    if (path_is_ours) return model.path;
    if (parts_.size() > 1 && !model.path.empty())
      return error(ErrorKind::kInvalid, "model file ({}) with external data was moved or replaced",
                   model.path);
    return "/proc/self/fd/" + std::to_string(model.file.fd());
  }

  void forget_bytes() const override {
    const std::lock_guard lock(mutex_);
    borrowed_ = {};
  }

 private:
  Result<std::size_t> read_borrowed(std::uint64_t offset, std::span<std::byte> out) const {
    const std::lock_guard lock(mutex_);
    if (borrowed_.empty())
      return error(ErrorKind::kInvalid,
                   "model was given as bytes and no copy was kept (spool none)");
    if (offset >= borrowed_.size()) return std::size_t{0};
    const auto part = borrowed_.subspan(
        offset, std::min(out.size(), borrowed_.size() - static_cast<std::size_t>(offset)));
    std::copy(part.begin(), part.end(), out.begin());
    return part.size();
  }

  // The content is still what was hashed: by what stat(2) says, else by hashing it again.
  Result<void> check_unchanged(std::size_t index) const {
    const Part& part = parts_[index];
    struct stat status{};
    if (part.file.fd() < 0) return {};
    if (::fstat(part.file.fd(), &status) != 0)
      return error(ErrorKind::kInvalid, "model file ({}) is gone: {}", part.path, reason(errno));
    // An unlinked or renamed file has a new ctime and the same content.
    if (identity_of(status) == part.identity) return {};
    const ModelFile& file = manifest_.files[index];
    if (static_cast<std::uint64_t>(status.st_size) == file.size_bytes) {
      OB_TRY(const Sha256 hash, hash_file(part.file.fd(), file.size_bytes, part.path));
      if (hash == file.sha256) return {};
    }
    return error(ErrorKind::kInvalid, "model file ({}) has changed since its session was created",
                 part.path);
  }

  const std::vector<Part> parts_;
  const ModelManifest manifest_;
  mutable std::mutex mutex_;
  mutable std::span<const std::byte> borrowed_;
};

// Adds the files that the model names, found beside it.
Result<void> add_external_data(std::span<const std::byte> model, const fs::path& folder,
                               std::vector<Part>& parts, ModelManifest& manifest) {
  const auto locations = external_data_locations(model);
  if (locations.size() >= limits::kModelFiles)
    return error(ErrorKind::kInvalid, "number of external data files ({}) must be below {}",
                 locations.size(), limits::kModelFiles);
  for (const std::string& location : locations) {
    if (location.starts_with(
            "*/_ORT_MEM_ADDR_/"))  // ONNX Runtime's marker for data passed in memory
      return error(ErrorKind::kInvalid, "external data in memory ({}) cannot travel", location);
    const std::string name = fs::path(location).lexically_normal().string();
    if (!is_safe_relative_path(name) || name == "model")
      return error(ErrorKind::kInvalid, "external data ({}) must lie beside the model or below",
                   location);
    OB_TRY(auto part, open_part((folder / name).string(), name));
    parts.push_back(std::move(part.first));
    manifest.files.push_back(std::move(part.second));
  }
  return {};
}

Result<File> spool_file(std::span<const std::byte> model, Spool spool) {
  int fd = -1;
  if (spool == Spool::kMemory) {
    fd = ::memfd_create("outboard-model", MFD_CLOEXEC);
  } else {
    const char* folder = std::getenv("TMPDIR");
    std::string path =
        std::string(folder != nullptr && *folder != '\0' ? folder : "/tmp") + "/outboard-XXXXXX";
    fd = ::mkostemp(path.data(), O_CLOEXEC);  // mode 0600
    if (fd >= 0) ::unlink(path.c_str());
  }
  File file(fd);
  if (fd < 0)
    return error(ErrorKind::kInvalid, "model given as bytes cannot be spooled: {}", reason(errno));
  for (std::size_t done = 0; done < model.size();) {
    const ssize_t n = ::write(fd, model.data() + done, model.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return error(ErrorKind::kInvalid, "model given as bytes cannot be spooled: {}",
                   reason(errno));
    done += static_cast<std::size_t>(n);
  }
  return file;
}

}  // namespace

Result<std::shared_ptr<const ModelPackage>> ModelPackage::from_path(const std::string& path) {
  std::vector<Part> parts;
  ModelManifest manifest;
  OB_TRY(auto model, open_part(path, "model"));
  const int fd = model.first.file.fd();
  const std::uint64_t size = model.second.size_bytes;
  parts.push_back(std::move(model.first));
  manifest.files.push_back(std::move(model.second));
  const Mapping mapping(fd, size);
  if (!mapping.is_valid())
    return error(ErrorKind::kInvalid, "model file ({}) cannot be mapped: {}", path, reason(errno));
  OB_CHECK_OK(add_external_data(mapping.bytes(), fs::path(path).parent_path(), parts, manifest));
  return std::make_shared<const Package>(std::move(parts), std::move(manifest),
                                         std::span<const std::byte>{});
}

Result<std::shared_ptr<const ModelPackage>> ModelPackage::from_bytes(
    std::span<const std::byte> model, Spool spool, const std::string& folder) {
  std::vector<Part> parts;
  ModelManifest manifest;
  manifest.files.push_back({"model", model.size(), outboard::sha256(model)});
  if (spool == Spool::kNone) {
    parts.push_back(Part{File(-1), {}, {}});
  } else {
    OB_TRY(File file, spool_file(model, spool));
    struct stat status{};
    ::fstat(file.fd(), &status);
    parts.push_back(Part{std::move(file), {}, identity_of(status)});
  }
  OB_CHECK_OK(add_external_data(model, folder, parts, manifest));
  return std::make_shared<const Package>(
      std::move(parts), std::move(manifest),
      spool == Spool::kNone ? model : std::span<const std::byte>{});
}

std::uint64_t ModelPackage::total_bytes() const {
  std::uint64_t total = 0;
  for (const ModelFile& file : manifest().files) total += file.size_bytes;
  return total;
}

}  // namespace outboard::wire
