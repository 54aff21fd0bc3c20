// SPDX-License-Identifier: Apache-2.0
// Sessions of bands. With a store (band_store.h) a band is emitted and optimised once: its model
// and its weights are kept, by everything that they depend on, and what is open in this process is
// used again. Weights are mapped and read in place, so bands and plans that have the same ones
// share them, in their blocked layout as well.
//
// Thread-safe. Lifetime: borrows the engine and the graph; sessions are independent of it.
// Errors: kInvalid where the wanted rows are not made in these units, kUnimplemented where blocks
// are asked for and the engine does not show its own layout; else the engine's. A store that cannot
// keep a band is passed over, with a line in the log.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "split/exec/band_store.h"
#include "split/graph/emit.h"

namespace onnx {
class ModelProto;
}

namespace outboard::split::exec {

struct BandRequest {
  int first_unit = 0, end_unit = 0;
  std::span<const TensorRows> wanted{};
  std::span<const SlotRows> slots{};
};

struct BandOptions {
  int channels = 0;  // of a block (blocked.h); 0: none
  int threads = 0;   // of a session; 0: the engine's shared pool
  std::shared_ptr<BandStore> store{};
  Sha256 model{};  // that the graph was built of; only a store asks for it
};

// What bands of a graph depend on here, whichever they are: model and graph, engine, processor,
// threads, blocks, and this program. For keys of a store.
std::string band_context(const engine::Engine& engine, const Graph& graph,
                         const BandOptions& options);

class BandOpener {
 public:
  BandOpener(engine::Engine& engine, const Graph& graph, BandOptions options);
  Result<std::shared_ptr<engine::Session>> open(const BandRequest& band) const;
  // Gives back the memory that emitting and optimising took: the allocator keeps as much as the
  // largest models were, and the model's file what was read of it. For when all bands are open.
  void tidy_up() const;

 private:
  bool in_blocks(const BandModel& model) const;
  Result<onnx::ModelProto> optimise(const BandRequest& band, const BandModel& model) const;
  Result<BandModel> emit(const BandRequest& band, Weights weights) const;
  Result<std::shared_ptr<engine::Session>> open_inside(const BandRequest& band) const;
  Result<StoredBand> make(const BandRequest& band) const;
  Result<StoredBand> find_or_make(const BandRequest& band, const Sha256& key) const;
  Result<std::shared_ptr<engine::Session>> open_stored(const BandRequest& request,
                                                       const StoredBand& band) const;
  Sha256 key_of(const BandRequest& band) const;
  engine::OpenOptions open_options(const BandRequest& band) const;

  engine::Engine& engine_;
  const Graph& graph_;
  const BandOptions options_;
  const std::vector<char> blocked_;  // by tensor
  std::string context_;              // what the keys of all bands have in common
  mutable std::atomic<bool> keeps_{false};
  mutable std::atomic<bool> has_emitted_{false};
};

}  // namespace outboard::split::exec
