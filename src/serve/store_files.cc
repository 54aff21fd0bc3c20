// SPDX-License-Identifier: Apache-2.0
// The store's start (what a former one left) and the publishing of complete models.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/limits.h"
#include "base/log.h"
#include "serve/store_internal.h"

namespace outboard::serve {
namespace {

namespace fs = std::filesystem;

std::int64_t modified_s(const struct stat& status) { return status.st_mtim.tv_sec; }

// Hard-links `from` as folder/name, whose folders are made.
Result<void> link_into(const std::string& from, const std::string& folder,
                       const std::string& name) {
  const std::string to = folder + "/" + name;
  OB_CHECK_OK(make_folders(fs::path(to).parent_path().string()));
  if (::link(from.c_str(), to.c_str()) != 0)
    return file_error("linking a model's file to", to, errno);
  return {};
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const Options& options) {
  std::unique_ptr<Store> store(new Store(options));
  OB_CHECK_OK(store->load());
  return store;
}

Result<void> Store::load() {
  if (options_.folder.empty()) return {};
  for (const char* name : {"/blobs", "/partial", "/models"})
    OB_CHECK_OK(make_folders(options_.folder + name));
  const std::string lock = options_.folder + "/lock";
  lock_fd_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_fd_ < 0) return file_error("opening", lock, errno);
  if (::flock(lock_fd_, LOCK_EX | LOCK_NB) != 0)
    return error(ErrorKind::kInvalid,
                 "the store ({}) is in use by another server; name another with --store",
                 options_.folder);
  load_blobs();
  load_models();
  // A limit that was lowered holds from now on.
  const std::lock_guard guard(mutex_);
  return make_room(0);
}

void Store::load_blobs() {
  std::error_code ignored;
  for (const bool complete : {true, false}) {
    const fs::path folder = options_.folder + (complete ? "/blobs" : "/partial");
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      const auto hash = Sha256::from_hex(entry.path().filename().string());
      struct stat status{};
      if (!hash || ::stat(entry.path().c_str(), &status) != 0 || !S_ISREG(status.st_mode) ||
          blobs_.contains(*hash)) {
        fs::remove_all(entry.path(), ignored);  // what a crash left half done
        continue;
      }
      auto blob = std::make_shared<Blob>(*hash);
      blob->complete = complete;
      blob->have_bytes = static_cast<std::uint64_t>(status.st_size);
      blob->reserved_bytes = blob->have_bytes;
      blob->last_used_s = modified_s(status);
      used_bytes_ += blob->reserved_bytes;
      blobs_.emplace(*hash, std::move(blob));
    }
  }
}

void Store::load_models() {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(options_.folder + "/models", ignored)) {
    const std::string folder = entry.path().string();
    const auto whole = [&]() -> Result<void> {
      OB_TRY(const std::string bytes,
             read_file(folder + "/manifest", limits::kControlMessageBytes));
      OB_TRY(auto manifest, wire::decode_model_manifest(std::as_bytes(std::span(bytes))));
      const Sha256 id = manifest.id();
      if (id.hex() != entry.path().filename().string())
        return error(ErrorKind::kInternal, "the manifest is another model's");
      for (const wire::ModelFile& file : manifest.files) {
        const auto blob = blobs_.find(file.sha256);
        struct stat status{};
        if (blob == blobs_.end() || !blob->second->complete ||
            blob->second->have_bytes != file.size_bytes ||
            ::stat((folder + "/files/" + file.name).c_str(), &status) != 0 ||
            static_cast<std::uint64_t>(status.st_size) != file.size_bytes)
          return error(ErrorKind::kInternal, "its file ({}) is not whole", file.name);
      }
      struct stat status{};
      ::stat((folder + "/manifest").c_str(), &status);
      for (const wire::ModelFile& file : manifest.files) ++blobs_.at(file.sha256)->models;
      models_[id] = {.manifest = std::move(manifest), .last_used_s = modified_s(status)};
      return {};
    }();
    if (whole) continue;
    log_warn("model dropped from the store folder={} reason=\"{}\"", folder, whole.error().message);
    fs::remove_all(entry.path(), ignored);
  }
}

// Makes the model's folder beside and renames it to its place. Called with the mutex held.
Result<void> Store::publish(const Sha256& id, const wire::ModelManifest& manifest) {
  const std::string beside = options_.folder + "/partial/model-" + id.hex();
  std::error_code ignored;
  fs::remove_all(beside, ignored);
  const auto made = [&]() -> Result<void> {
    OB_CHECK_OK(make_folders(beside + "/files"));
    for (const wire::ModelFile& file : manifest.files)
      OB_CHECK_OK(link_into(blob_path(file.sha256), beside + "/files", file.name));
    OB_CHECK_OK(write_file_atomically(beside + "/manifest", wire::encode(manifest)));
    OB_CHECK_OK(sync_folder(beside));
    OB_CHECK_OK(rename_path(beside, model_folder(id)));
    return sync_folder(options_.folder + "/models");
  }();
  if (!made) {
    fs::remove_all(beside, ignored);
    return tl::make_unexpected(Error(made.error()).while_doing("storing a model"));
  }
  for (const wire::ModelFile& file : manifest.files) ++blobs_.at(file.sha256)->models;
  models_[id] = {.manifest = manifest, .last_used_s = now_s()};
  return {};
}

}  // namespace outboard::serve
