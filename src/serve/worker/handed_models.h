// SPDX-License-Identifier: Apache-2.0
// The models that a worker was handed: their files as descriptors, mapped for reading. A pool of
// sessions pins them by name; the engine below opens them from their bytes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "engine/engine.h"
#include "serve/model_source.h"
#include "serve/worker/placed_session.h"
#include "wire/transport/file_descriptor.h"
#include "wire/transport/shared_memory.h"

namespace outboard::serve {

// Thread-safe.
class HandedModels final : public ModelSource {
 public:
  // One file; "model" comes first and begins the model anew. `to_show`: it is not to be run
  // (below).
  Result<void> add(const Sha256& model, const std::string& file_name,
                   const wire::FileDescriptor& file, bool to_show = false);
  void forget(const Sha256& model);  // sessions that are open keep it
  // A model whose session is the open one of another, with its tensors in place (placed_session.h).
  void place(const Sha256& model, const std::string& other);
  HandedMemories& memories() { return memories_; }
  Result<std::unique_ptr<PinnedModel>> pin(const Sha256& model) override;

  struct File {
    std::string name;
    wire::Mapping mapping;  // none: the file is empty
    std::span<const std::byte> bytes() const { return {mapping.data(), mapping.size()}; }
  };
  struct Model {
    std::vector<File> files;
    bool to_show = false;
    std::string placed;  // the other one's name
  };
  std::shared_ptr<const Model> find(const std::string& path) const;  // a PinnedModel's

 private:
  HandedMemories memories_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Model>> models_;  // by the name's digits
};

// An engine that opens what was handed, with another one that opens bytes. A model to be shown is
// optimised instead (engine/optimiser.h): its session has no inputs and one output, the optimised
// model as bytes (uint8). Borrows the models.
std::unique_ptr<engine::Engine> make_handed_engine(std::unique_ptr<engine::Engine> real,
                                                   HandedModels& models);

}  // namespace outboard::serve
