// SPDX-License-Identifier: Apache-2.0
// The models that clients have uploaded, on disk, by content.
//
//   DIR/blobs/HASH              a complete file, its hash verified
//   DIR/partial/HASH            a file that is being uploaded; resumes across connections and
//   starts DIR/models/ID/manifest      a complete model: its manifest as on the wire, and
//   DIR/models/ID/files/NAME    hard links to its blobs under the manifest's relative names
//   DIR/lock                    held by the one server that uses the store
//
// A file becomes visible by rename after fsync, so a crash leaves either the old state or the new
// one, and at worst a partial file whose hash will not do: it is then dropped and begun anew.
// Within the limit the least recently used goes first, never what is pinned.
//
// Thread-safe. Pins borrow the store, which must outlive them.
// Errors: kInvalid for what a client did wrong (order of chunks, a wrong hash, unsafe names),
// kRefused for a model larger than the limit, kOverloaded when the store is full of models in use,
// kNotFound for a model that is not there, kInternal when the file system fails.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "serve/model_source.h"
#include "wire/messages.h"

namespace outboard::serve {

class Store final : public ModelSource {
 public:
  struct Options {
    std::string folder;  // empty: it keeps nothing and refuses every model
    std::uint64_t limit_bytes = std::uint64_t{20} << 30;
    // What a store that is full of models in use answers: another server may have room, or (a
    // tenant's store) it is the client's own limit.
    ErrorKind when_full = ErrorKind::kOverloaded;
  };
  // Makes the folder; kInvalid when it cannot be used or another server holds it.
  static Result<std::unique_ptr<Store>> open(const Options& options);
  ~Store() override;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Keeps the files of a model that is on its way from being evicted, as long as it lives.
  class Upload {
   public:
    ~Upload();
    const wire::ModelManifest& manifest() const { return manifest_; }

   private:
    friend class Store;
    Upload(Store& store, wire::ModelManifest manifest);
    Store& store_;
    const wire::ModelManifest manifest_;
  };
  // Names the path of the model's first file; its other files are in the same folder.
  class Pin final : public PinnedModel {
   public:
    ~Pin() override;

   private:
    friend class Store;
    Pin(Store& store, const Sha256& model, std::string path, std::uint64_t size_bytes);
    Store& store_;
    const Sha256 model_;
  };

  // What is there of a model. Publishes it if all its files are. `upload` is empty before, and
  // receives a hold when something is missing.
  Result<wire::ModelState> state(const wire::ModelManifest& manifest,
                                 std::unique_ptr<Upload>& upload);
  // Adds a piece of a file of an upload; returns how many bytes are there now. Bytes that are
  // there already are passed over. The last piece verifies the hash; then call state() again.
  Result<std::uint64_t> append(const Upload& upload, const wire::UploadChunk& chunk,
                               std::span<const std::byte> bytes);

  // Whether a complete file of this hash and size is there.
  bool has_file(const Sha256& hash, std::uint64_t size_bytes) const;

  Result<std::unique_ptr<PinnedModel>> pin(const Sha256& model) override;

  struct Totals {
    std::uint64_t models = 0, files = 0, used_bytes = 0, limit_bytes = 0;
  };
  Totals totals() const;
  struct ModelRow {
    Sha256 id;
    std::uint64_t files = 0, size_bytes = 0;
    bool pinned = false;
  };
  std::vector<ModelRow> models() const;
  const std::string& folder() const { return options_.folder; }
  void set_limit(std::uint64_t limit_bytes);  // what is beyond it goes as room is needed

 private:
  struct Blob;
  struct Model;

  explicit Store(Options options);
  Result<void> load();
  void load_blobs();
  void load_models();
  Result<void> publish(const Sha256& id, const wire::ModelManifest& manifest);
  Result<void> reserve(Blob& blob, std::uint64_t file_bytes);
  Result<void> make_room(std::uint64_t bytes);
  void evict_model(const Sha256& id);
  void drop_if_unused(const Sha256& hash);
  Result<std::uint64_t> append_locked(Blob& blob, const wire::UploadChunk& chunk,
                                      std::span<const std::byte> bytes);
  Result<void> complete_empty(Blob& blob);
  Result<void> finish(Blob& blob, const wire::UploadChunk& chunk);
  std::string blob_path(const Sha256& hash) const;
  std::string partial_path(const Sha256& hash) const;
  std::string model_folder(const Sha256& id) const;

  const Options options_;
  int lock_fd_ = -1;
  mutable std::mutex mutex_;  // the index; a blob's upload has a mutex of its own
  std::map<Sha256, std::shared_ptr<Blob>> blobs_;
  std::map<Sha256, Model> models_;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t limit_bytes_ = options_.limit_bytes;
};

}  // namespace outboard::serve
