// SPDX-License-Identifier: Apache-2.0
// The store's index: what is there, what is in use, and what goes first. store_files.cc has the
// start and the publishing, store_upload.cc the pieces.
#include "serve/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"
#include "serve/store_internal.h"
#include "wire/model_package.h"

namespace outboard::serve {
namespace {

std::string short_name(const Sha256& hash) { return hash.hex().substr(0, 12); }

// What a manifest must be beyond what the codec checks.
Result<std::uint64_t> check_manifest(const wire::ModelManifest& manifest) {
  if (manifest.files.empty() || manifest.files.front().name != "model")
    return error(ErrorKind::kInvalid, "the first file of a manifest must be (model)");
  std::set<std::string_view> names;
  std::uint64_t total = 0;
  for (const wire::ModelFile& file : manifest.files) {
    if (!wire::is_safe_relative_path(file.name))
      return error(ErrorKind::kInvalid, "the file's name ({}) must be a relative path inside",
                   file.name);
    if (!names.insert(file.name).second)
      return error(ErrorKind::kInvalid, "the file's name ({}) must be in the manifest once",
                   file.name);
    if (file.size_bytes > limits::kModelFileBytes ||
        __builtin_add_overflow(total, file.size_bytes, &total))
      return error(ErrorKind::kInvalid, "the file's size ({} bytes) must be at most {}",
                   file.size_bytes, limits::kModelFileBytes);
  }
  return total;
}

}  // namespace

Store::Store(Options options) : options_(std::move(options)) {}

Store::~Store() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

std::string Store::blob_path(const Sha256& hash) const {
  return options_.folder + "/blobs/" + hash.hex();
}
std::string Store::partial_path(const Sha256& hash) const {
  return options_.folder + "/partial/" + hash.hex();
}
std::string Store::model_folder(const Sha256& id) const {
  return options_.folder + "/models/" + id.hex();
}

Result<wire::ModelState> Store::state(const wire::ModelManifest& manifest,
                                      std::unique_ptr<Upload>& upload) {
  OB_TRY(const std::uint64_t total, check_manifest(manifest));
  if (options_.folder.empty())
    return error(ErrorKind::kRefused, "this server keeps no models (it has no store)");
  const Sha256 id = manifest.id();
  OB_CHECK(!upload);
  std::unique_ptr<Upload> hold;  // gives back after the mutex is free
  const std::unique_lock lock(mutex_);
  wire::ModelState state;
  if (const auto found = models_.find(id); found != models_.end()) {
    found->second.last_used_s = now_s();
    for (const wire::ModelFile& file : manifest.files) state.have_bytes.push_back(file.size_bytes);
    state.complete = true;
    return state;
  }
  if (total > limit_bytes_)
    return error(ErrorKind::kRefused,
                 "the model's size ({} bytes) must be at most the store's ({})", total,
                 limit_bytes_);
  hold.reset(new Upload(*this, manifest));
  bool all = true;
  for (const wire::ModelFile& file : manifest.files) {
    Blob& blob = *blobs_.at(file.sha256);
    if (file.size_bytes == 0 && !blob.complete) OB_CHECK_OK(complete_empty(blob));
    const std::uint64_t have = blob.have_bytes;
    if (blob.complete && have != file.size_bytes)
      return error(ErrorKind::kInvalid, "the file's size ({} bytes) must be what its hash has ({})",
                   file.size_bytes, have);
    // All bytes, but not verified yet: any piece of the file brings that about.
    state.have_bytes.push_back(blob.complete || have < file.size_bytes ? have : 0);
    all = all && blob.complete;
  }
  if (all) {
    OB_CHECK_OK(publish(id, manifest));
    log_info("model stored model={} files={} bytes={}", short_name(id), manifest.files.size(),
             total);
    state.complete = true;
    return state;
  }
  upload = std::move(hold);
  return state;
}

// Called with the mutex held.
Store::Upload::Upload(Store& store, wire::ModelManifest manifest)
    : store_(store), manifest_(std::move(manifest)) {
  for (const wire::ModelFile& file : manifest_.files) {
    auto& blob = store_.blobs_[file.sha256];
    if (!blob) blob = std::make_shared<Blob>(file.sha256);
    ++blob->uploads;
    blob->last_used_s = now_s();
  }
}

Store::Upload::~Upload() {
  const std::lock_guard lock(store_.mutex_);
  for (const wire::ModelFile& file : manifest_.files) {
    const auto blob = store_.blobs_.at(file.sha256);
    if (--blob->uploads > 0) continue;
    // Nobody appends now: an append holds an upload.
    blob->file = File();
    blob->hasher.reset();
    if (blob->complete) continue;
    // What did not come is no longer reserved.
    store_.used_bytes_ -= blob->reserved_bytes - blob->have_bytes;
    blob->reserved_bytes = blob->have_bytes;
    if (blob->have_bytes == 0) store_.drop_if_unused(file.sha256);
  }
}

bool Store::has_file(const Sha256& hash, std::uint64_t size_bytes) const {
  const std::lock_guard lock(mutex_);
  const auto found = blobs_.find(hash);
  return found != blobs_.end() && found->second->complete &&
         found->second->have_bytes == size_bytes;
}

Result<std::unique_ptr<PinnedModel>> Store::pin(const Sha256& model) {
  const std::lock_guard lock(mutex_);
  const auto found = models_.find(model);
  if (found == models_.end())
    return error(ErrorKind::kNotFound, "the model ({}) is not in the store", short_name(model));
  ++found->second.pins;
  found->second.last_used_s = now_s();
  const std::string folder = model_folder(model);
  // The order of use outlives a start by the manifest's time.
  ::utimensat(AT_FDCWD, (folder + "/manifest").c_str(), nullptr, 0);
  std::uint64_t size_bytes = 0;
  for (const wire::ModelFile& file : found->second.manifest.files) size_bytes += file.size_bytes;
  return std::unique_ptr<PinnedModel>(new Pin(*this, model, folder + "/files/model", size_bytes));
}

Store::Pin::Pin(Store& store, const Sha256& model, std::string path, std::uint64_t size_bytes)
    : PinnedModel(std::move(path), size_bytes), store_(store), model_(model) {}

void Store::set_limit(std::uint64_t limit_bytes) {
  const std::lock_guard lock(mutex_);
  limit_bytes_ = limit_bytes;
}

Store::Pin::~Pin() {
  const std::lock_guard lock(store_.mutex_);
  Model& model = store_.models_.at(model_);
  --model.pins;
  model.last_used_s = now_s();
}

// Counts the whole file before its first byte is written, so that two uploads cannot both have the
// last free space. Called with the mutex held.
Result<void> Store::reserve(Blob& blob, std::uint64_t file_bytes) {
  if (blob.reserved_bytes >= file_bytes) return {};
  OB_CHECK_OK(make_room(file_bytes - blob.reserved_bytes));
  used_bytes_ += file_bytes - blob.reserved_bytes;
  blob.reserved_bytes = file_bytes;
  return {};
}

Result<void> Store::make_room(std::uint64_t bytes) {
  while (bytes > limit_bytes_ || used_bytes_ > limit_bytes_ - bytes) {
    const auto older = [](const auto& a, const auto& b) {
      return a.second->last_used_s < b.second->last_used_s;
    };
    std::vector<std::pair<Sha256, const Model*>> models;
    for (const auto& [id, model] : models_)
      if (model.pins == 0) models.emplace_back(id, &model);
    std::vector<std::pair<Sha256, const Blob*>> files;
    for (const auto& [hash, blob] : blobs_)
      if (blob->models == 0 && blob->uploads == 0) files.emplace_back(hash, blob.get());
    const auto model = std::min_element(models.begin(), models.end(), older);
    const auto file = std::min_element(files.begin(), files.end(), older);
    if (model == models.end() && file == files.end())
      return error(options_.when_full,
                   "the store is full of models in use ({} of {} bytes); {} more are needed",
                   used_bytes_, limit_bytes_, bytes);
    if (file == files.end() ||
        (model != models.end() && model->second->last_used_s <= file->second->last_used_s))
      evict_model(Sha256(model->first));
    else
      drop_if_unused(Sha256(file->first));
  }
  return {};
}

void Store::evict_model(const Sha256& id) {
  const auto found = models_.find(id);
  OB_CHECK(found != models_.end() && found->second.pins == 0);
  log_info("model evicted model={}", short_name(id));
  // Out of sight in one step, then piece by piece.
  const std::string doomed = options_.folder + "/partial/evicted-" + id.hex();
  std::error_code ignored;
  std::filesystem::rename(model_folder(id), doomed, ignored);
  std::filesystem::remove_all(doomed, ignored);
  const wire::ModelManifest manifest = std::move(found->second.manifest);
  models_.erase(found);
  for (const wire::ModelFile& file : manifest.files) --blobs_.at(file.sha256)->models;
  for (const wire::ModelFile& file : manifest.files) drop_if_unused(file.sha256);
}

void Store::drop_if_unused(const Sha256& hash) {
  const auto found = blobs_.find(hash);
  if (found == blobs_.end()) return;  // named twice by a manifest, and gone already
  const Blob& blob = *found->second;
  if (blob.models > 0 || blob.uploads > 0) return;
  std::error_code ignored;
  std::filesystem::remove(blob.complete ? blob_path(hash) : partial_path(hash), ignored);
  used_bytes_ -= blob.reserved_bytes;
  blobs_.erase(found);
}

Store::Totals Store::totals() const {
  const std::lock_guard lock(mutex_);
  return {.models = models_.size(),
          .files = blobs_.size(),
          .used_bytes = used_bytes_,
          .limit_bytes = limit_bytes_};
}

std::vector<Store::ModelRow> Store::models() const {
  const std::lock_guard lock(mutex_);
  std::vector<ModelRow> rows;
  for (const auto& [id, model] : models_) {
    ModelRow row{.id = id, .files = model.manifest.files.size(), .pinned = model.pins > 0};
    for (const wire::ModelFile& file : model.manifest.files) row.size_bytes += file.size_bytes;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace outboard::serve
