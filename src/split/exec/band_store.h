// SPDX-License-Identifier: Apache-2.0
// Finished bands on disk, and their weights, each once: in the folder, and in the memory of a
// process.
//
//   DIR/weights/HASH    the bytes of a weight, mapped where they are used
//   DIR/bands/KEY       a band's model as it is opened, with its weights as external data; or what
//                       was measured of a graph (measure.h)
//
// A key says everything that the band depends on (band_opener.h). What is read is held against its
// hash, a weight once for as long as its file stays as it is; a damaged file goes, with a line in
// the log, and is made anew. Files are written aside and
// renamed, unsynced: what a power cut leaves is found by its hash. Several processes of one user
// may use a folder; it is that user's alone (0700), because whoever writes there decides what is
// computed. Within the limit what was used least recently goes first, never what this process uses;
// what another one has mapped stays with it.
//
// Thread-safe. Lifetime: a store, its weights and its sessions are independent of each other.
// Errors: kInvalid for a folder that cannot be used, kOverloaded where the limit or the disk is
// full, kInternal when the file system fails. Nobody needs a store: a band that cannot be kept is
// opened with its weights inside.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "engine/engine.h"
#include "split/graph/onnx_file.h"

namespace outboard::split::exec {

// An initializer of a band's model whose bytes are a weight's.
struct StoredTensor {
  std::string name;
  int element_type = 0;  // onnx::TensorProto::DataType
  std::vector<std::int64_t> dims;
  Sha256 hash;
  std::shared_ptr<const MappedFile> weight;
};

struct StoredBand {
  std::string model;       // a serialised ModelProto; its weights are at BandStore::location()
  bool optimised = false;  // it is what the engine made of it, and to be opened as it is
  std::vector<StoredTensor> tensors;
};

class BandStore {
 public:
  struct Options {
    std::string folder;
    std::uint64_t limit_bytes = std::uint64_t{4} << 30;
  };
  static Result<std::shared_ptr<BandStore>> open(Options options);

  // The weight of these bytes: the one that is in use, or in the folder, or a new file.
  struct Weight {
    Sha256 hash;
    std::shared_ptr<const MappedFile> file;
  };
  Result<Weight> keep(std::span<const std::byte> bytes);
  Result<void> add(const Sha256& key, const StoredBand& band);
  // Nothing where the band, or a weight of it, is not there or was damaged.
  std::optional<StoredBand> find(const Sha256& key);
  // A text under a key of its own.
  Result<void> add_text(const Sha256& key, std::string text) {
    return add(key, {std::move(text), false, {}});
  }
  std::optional<std::string> find_text(const Sha256& key);

  // A band's session that is open in this process already.
  std::shared_ptr<engine::Session> session(const engine::Engine& engine, const Sha256& key) const;
  void lend(const engine::Engine& engine, const Sha256& key,
            const std::shared_ptr<engine::Session>& session);

  const std::string& folder() const { return options_.folder; }
  // What a band's model calls a weight, from the folder on.
  static std::string location(const Sha256& weight) { return "weights/" + weight.hex(); }

  struct Totals {
    std::size_t weights = 0, sessions = 0;  // in use in this process
    std::uint64_t weight_bytes = 0;         // of these weights
    std::uint64_t folder_bytes = 0;         // as far as this process knows
    std::uint64_t found = 0, added = 0;     // bands, so far
  };
  Totals totals() const;

 private:
  struct OnDisk;
  // What a file is told by that nobody has written to since.
  struct Identity {
    std::uint64_t device = 0, inode = 0, size_bytes = 0;
    std::int64_t changed_ns = 0;
    bool operator==(const Identity&) const = default;
  };

  explicit BandStore(Options options) : options_(std::move(options)) {}
  std::string band_path(const Sha256& key) const { return folder() + "/bands/" + key.hex(); }
  std::string weight_path(const Sha256& hash) const { return folder() + "/" + location(hash); }
  std::shared_ptr<const MappedFile> in_use(const Sha256& hash) const;
  std::shared_ptr<const MappedFile> load(const Sha256& hash, std::uint64_t size_bytes);
  std::shared_ptr<const MappedFile> share(const Sha256& hash,
                                          std::shared_ptr<const MappedFile> file);
  static std::optional<Identity> identity_of(const std::string& path);
  bool is_verified(const Sha256& hash, const std::string& path) const;
  Result<void> make_room(std::uint64_t bytes, bool look);
  std::vector<OnDisk> list() const;
  bool is_used(const std::string& name) const;

  const Options options_;
  mutable std::mutex mutex_;  // what follows; never held while a file is read or written
  std::map<Sha256, std::weak_ptr<const MappedFile>> weights_;
  std::map<Sha256, Identity> verified_;
  std::map<std::pair<const engine::Engine*, Sha256>, std::weak_ptr<engine::Session>> sessions_;
  std::uint64_t folder_bytes_ = 0, found_ = 0, added_ = 0;
};

}  // namespace outboard::split::exec
