// SPDX-License-Identifier: Apache-2.0
#include "split/exec/band_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/cursor.h"
#include "base/files.h"
#include "base/log.h"

namespace outboard::split::exec {
namespace {

namespace fs = std::filesystem;

// A file's first bytes; its last character is the format's version, which is in every key as well.
constexpr std::string_view kMagic = "OBBAND1\n";
constexpr std::size_t kBandBytes = std::size_t{256} << 20;
constexpr std::size_t kMostTensors = 1u << 20;
constexpr std::size_t kMostDims = 64;
constexpr std::int64_t kLeftoverAge_s = 3600;

Result<void> make_own_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return file_error("making the folder", path, errno);
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return file_error("reading the folder", path, errno);
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid())
    return error(ErrorKind::kInvalid, "({}) must be a folder of this user's", path);
  if ((status.st_mode & 077) != 0 && ::chmod(path.c_str(), 0700) != 0)
    return file_error("closing the folder to others", path, errno);
  return {};
}

// By its time it is known when a file was used last, to the minute: every change of it is one of
// the file.
void touch(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0 && now_s() - status.st_mtim.tv_sec >= 60)
    ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
}

std::string encode(const Sha256& key, const StoredBand& band) {
  ByteWriter out;
  out.append(key.bytes);
  out.write(static_cast<std::uint8_t>(band.optimised));
  out.write(static_cast<std::uint32_t>(band.tensors.size()));
  for (const StoredTensor& t : band.tensors) {
    out.write(static_cast<std::uint32_t>(t.name.size()));
    out.append(as_byte_span(t.name));
    out.write(static_cast<std::int32_t>(t.element_type));
    out.write(static_cast<std::uint32_t>(t.dims.size()));
    for (std::int64_t d : t.dims) out.write(d);
    out.write(static_cast<std::uint64_t>(t.weight->bytes().size()));
    out.append(t.hash.bytes);
  }
  out.write(static_cast<std::uint64_t>(band.model.size()));
  out.append(as_byte_span(band.model));
  const Sha256 hash = sha256(out.bytes());
  std::string file(kMagic);
  for (const auto part : {std::span<const std::byte>(hash.bytes), out.bytes()})
    file.append(reinterpret_cast<const char*>(part.data()), part.size());
  return file;
}

Sha256 read_hash(ByteReader& in) {
  Sha256 hash;
  const auto bytes = in.take(hash.bytes.size());
  std::copy(bytes.begin(), bytes.end(), hash.bytes.begin());
  return hash;
}

std::string read_text(ByteReader& in, std::uint64_t size) {
  const auto bytes = in.take(size);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// `sizes`: of the weights, which are not mapped yet. Nothing where the file is not what it was.
std::optional<StoredBand> decode(const Sha256& key, std::string_view file,
                                 std::vector<std::uint64_t>& sizes) {
  if (!file.starts_with(kMagic)) return std::nullopt;
  ByteReader in(as_byte_span(file.substr(kMagic.size())));
  const Sha256 hash = read_hash(in);
  if (!in.ok() || sha256(as_byte_span(file.substr(kMagic.size() + hash.bytes.size()))) != hash ||
      read_hash(in) != key)
    return std::nullopt;
  StoredBand band;
  band.optimised = in.read<std::uint8_t>() != 0;
  const auto count = in.read<std::uint32_t>();
  for (std::uint32_t i = 0; i < count && in.ok() && count <= kMostTensors; ++i) {
    StoredTensor& t = band.tensors.emplace_back();
    t.name = read_text(in, in.read<std::uint32_t>());
    t.element_type = in.read<std::int32_t>();
    const auto rank = in.read<std::uint32_t>();
    for (std::uint32_t d = 0; d < rank && rank <= kMostDims; ++d)
      t.dims.push_back(in.read<std::int64_t>());
    sizes.push_back(in.read<std::uint64_t>());
    t.hash = read_hash(in);
  }
  band.model = read_text(in, in.read<std::uint64_t>());
  if (!in.ok() || in.remaining() > 0 || band.tensors.size() != count) return std::nullopt;
  return band;
}

void remove_damaged(const std::string& path) {
  log_warn("damaged file removed path={} hint=\"what it held is made anew\"", path);
  ::unlink(path.c_str());
}

}  // namespace

struct BandStore::OnDisk {
  std::string path;
  std::uint64_t size_bytes = 0;
  std::int64_t used_ns = 0;  // when last
  bool in_use = false;
};

Result<std::shared_ptr<BandStore>> BandStore::open(Options options) {
  const fs::path above = fs::path(options.folder).parent_path();
  if (!above.empty()) OB_CHECK_OK(make_folders(above.string()));
  for (const char* name : {"", "/weights", "/bands"})
    OB_CHECK_OK(make_own_folder(options.folder + name));
  std::shared_ptr<BandStore> store(new BandStore(std::move(options)));
  const std::lock_guard lock(store->mutex_);
  OB_CHECK_OK(store->make_room(0, true));  // a limit that was lowered holds from now on
  return store;
}

std::shared_ptr<const MappedFile> BandStore::in_use(const Sha256& hash) const {
  const std::lock_guard lock(mutex_);
  const auto found = weights_.find(hash);
  return found == weights_.end() ? nullptr : found->second.lock();
}

std::optional<BandStore::Identity> BandStore::identity_of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return Identity{status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size),
                  std::int64_t{status.st_ctim.tv_sec} * 1'000'000'000 + status.st_ctim.tv_nsec};
}

bool BandStore::is_verified(const Sha256& hash, const std::string& path) const {
  const auto identity = identity_of(path);
  const std::lock_guard lock(mutex_);
  const auto found = verified_.find(hash);
  return identity && found != verified_.end() && found->second == *identity;
}

// Two threads may have mapped the same file: the first one's is everybody's.
std::shared_ptr<const MappedFile> BandStore::share(const Sha256& hash,
                                                   std::shared_ptr<const MappedFile> file) {
  const std::lock_guard lock(mutex_);
  // A change within the clock's tick of the last one would not show.
  const auto identity = identity_of(weight_path(hash));
  if (identity && now_s() - identity->changed_ns / 1'000'000'000 > 1) verified_[hash] = *identity;
  auto& shared = weights_[hash];
  if (auto other = shared.lock()) return other;
  shared = file;
  return file;
}

// Null where it is not there, or not what its name says; it is gone then.
std::shared_ptr<const MappedFile> BandStore::load(const Sha256& hash, std::uint64_t size_bytes) {
  const std::string path = weight_path(hash);
  if (auto used = in_use(hash)) {
    if (used->bytes().size() != size_bytes) return nullptr;
    // Another process may have made room for its own; models name the file.
    if (::access(path.c_str(), F_OK) != 0) (void)write_file_unsynced(path, used->bytes());
    return used;
  }
  const bool verified = is_verified(hash, path);
  auto file = MappedFile::open(path);
  if (!file) return nullptr;
  if ((*file)->bytes().size() != size_bytes || (!verified && sha256((*file)->bytes()) != hash)) {
    remove_damaged(path);
    return nullptr;
  }
  touch(path);
  return share(hash, *std::move(file));
}

Result<BandStore::Weight> BandStore::keep(std::span<const std::byte> bytes) {
  const Sha256 hash = sha256(bytes);
  if (auto there = load(hash, bytes.size())) return Weight{hash, std::move(there)};
  {
    const std::lock_guard lock(mutex_);
    OB_CHECK_OK(make_room(bytes.size(), false));
    folder_bytes_ += bytes.size();
  }
  const std::string path = weight_path(hash);
  OB_CHECK_OK(write_file_unsynced(path, bytes));
  OB_TRY(auto file, MappedFile::open(path));
  if (file->bytes().size() != bytes.size())
    return error(ErrorKind::kInternal, "the file ({}) has {} bytes; expected {}", path,
                 file->bytes().size(), bytes.size());
  return Weight{hash, share(hash, std::move(file))};
}

Result<void> BandStore::add(const Sha256& key, const StoredBand& band) {
  const std::string file = encode(key, band);
  {
    const std::lock_guard lock(mutex_);
    ++added_;
    OB_CHECK_OK(make_room(file.size(), true));
    folder_bytes_ += file.size();
  }
  return write_file_unsynced(band_path(key), as_byte_span(file));
}

std::optional<StoredBand> BandStore::find(const Sha256& key) {
  const std::string path = band_path(key);
  if (::access(path.c_str(), F_OK) != 0) return std::nullopt;
  const auto file = read_file(path, kBandBytes);
  std::vector<std::uint64_t> sizes;
  auto band = file ? decode(key, *file, sizes) : std::nullopt;
  if (!band) {
    remove_damaged(path);
    return std::nullopt;
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    band->tensors[i].weight = load(band->tensors[i].hash, sizes[i]);
    if (!band->tensors[i].weight) return std::nullopt;
  }
  touch(path);
  const std::lock_guard lock(mutex_);
  ++found_;
  return band;
}

std::optional<std::string> BandStore::find_text(const Sha256& key) {
  auto found = find(key);
  if (!found) return std::nullopt;
  return std::move(found->model);
}

std::shared_ptr<engine::Session> BandStore::session(const engine::Engine& engine,
                                                    const Sha256& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find({&engine, key});
  return found == sessions_.end() ? nullptr : found->second.lock();
}

void BandStore::lend(const engine::Engine& engine, const Sha256& key,
                     const std::shared_ptr<engine::Session>& session) {
  const std::lock_guard lock(mutex_);
  std::erase_if(sessions_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(weights_, [](const auto& entry) { return entry.second.expired(); });
  constexpr std::size_t kMostVerified = 1u << 16;
  if (verified_.size() > kMostVerified) verified_.clear();
  sessions_[{&engine, key}] = session;
}

BandStore::Totals BandStore::totals() const {
  const std::lock_guard lock(mutex_);
  Totals totals{.folder_bytes = folder_bytes_, .found = found_, .added = added_};
  for (const auto& [hash, weak] : weights_)
    if (const auto weight = weak.lock()) {
      ++totals.weights;
      totals.weight_bytes += weight->bytes().size();
    }
  for (const auto& [key, weak] : sessions_) totals.sessions += weak.expired() ? 0 : 1;
  return totals;
}

// With the mutex held.
bool BandStore::is_used(const std::string& name) const {
  const auto hash = Sha256::from_hex(name);
  if (!hash) return false;
  if (const auto weight = weights_.find(*hash);
      weight != weights_.end() && !weight->second.expired())
    return true;
  return std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& entry) {
    return entry.first.second == *hash && !entry.second.expired();
  });
}

// With the mutex held. What a crash left half written goes once nobody can be writing it any more.
std::vector<BandStore::OnDisk> BandStore::list() const {
  std::vector<OnDisk> files;
  std::error_code ignored;
  for (const char* name : {"/weights", "/bands"})
    for (const auto& entry : fs::directory_iterator(folder() + name, ignored)) {
      const std::string path = entry.path().string();
      struct stat status{};
      if (::lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
      const std::string file = entry.path().filename().string();
      if (!Sha256::from_hex(file) && now_s() - status.st_mtim.tv_sec > kLeftoverAge_s) {
        ::unlink(path.c_str());
        continue;
      }
      files.push_back({path, static_cast<std::uint64_t>(status.st_size),
                       std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec,
                       !Sha256::from_hex(file) || is_used(file)});
    }
  return files;
}

// With the mutex held. `look`: what other processes have written counts, too.
Result<void> BandStore::make_room(std::uint64_t bytes, bool look) {
  const auto fits = [&] {
    return bytes <= options_.limit_bytes && folder_bytes_ <= options_.limit_bytes - bytes;
  };
  if (!look && fits()) return {};
  std::vector<OnDisk> files = list();
  folder_bytes_ = 0;
  for (const OnDisk& file : files) folder_bytes_ += file.size_bytes;
  std::sort(files.begin(), files.end(),
            [](const OnDisk& a, const OnDisk& b) { return a.used_ns < b.used_ns; });
  for (const OnDisk& file : files) {
    if (fits()) break;
    if (file.in_use || ::unlink(file.path.c_str()) != 0) continue;
    folder_bytes_ -= file.size_bytes;
  }
  if (fits()) return {};
  return error(ErrorKind::kOverloaded,
               "the folder of bands ({}) is full of what is in use ({} of {} bytes); {} more are "
               "needed",
               folder(), folder_bytes_, options_.limit_bytes, bytes);
}

}  // namespace outboard::split::exec
