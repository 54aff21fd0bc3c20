// SPDX-License-Identifier: Apache-2.0
// An engine that does what another one does: the base of those that change a part of it.
// Thread-safety: the other engine's.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/memory_source.h"
#include "engine/optimiser.h"

namespace outboard::engine {

class ForwardingEngine : public Engine, public ModelOptimiser, public MemorySource {
 public:
  explicit ForwardingEngine(std::unique_ptr<Engine> real) : real_(std::move(real)) {}
  std::string name() const override { return real_->name(); }
  std::string version() const override { return real_->version(); }
  std::string device() const override { return real_->device(); }
  std::vector<std::string> available_providers() const override {
    return real_->available_providers();
  }
  Result<std::shared_ptr<Session>> open(const std::string& path,
                                        const OpenOptions& options) override {
    return real_->open(path, options);
  }
  Result<std::shared_ptr<Session>> open_bytes(std::span<const std::byte> model,
                                              const OpenOptions& options) override {
    return real_->open_bytes(model, options);
  }
  std::unique_ptr<RunControl> make_run_control() override { return real_->make_run_control(); }
  bool takes_shared_tensors() const override { return real_->takes_shared_tensors(); }
  Result<std::string> optimise(std::span<const std::byte> model,
                               const OpenOptions& options) override {
    if (auto* const optimiser = dynamic_cast<ModelOptimiser*>(real_.get()))
      return optimiser->optimise(model, options);
    return error(ErrorKind::kUnimplemented, "the engine ({}) does not show what it computes",
                 name());
  }
  Result<std::shared_ptr<std::byte>> take_memory(std::uint64_t size_bytes) override {
    if (auto* const source = dynamic_cast<MemorySource*>(real_.get()))
      return source->take_memory(size_bytes);
    return error(ErrorKind::kUnimplemented, "the engine ({}) computes in this process", name());
  }

 protected:
  Engine& real() { return *real_; }

 private:
  const std::unique_ptr<Engine> real_;
};

// A session, and what it reads for as long as it is there: model bytes, weights.
class KeepingSession final : public Session {
 public:
  KeepingSession(std::shared_ptr<const void> kept, std::shared_ptr<Session> session)
      : kept_(std::move(kept)), session_(std::move(session)) {}
  const ModelInfo& info() const override { return session_->info(); }
  Result<std::unique_ptr<RunOutputs>> run(std::span<const InputView> inputs,
                                          std::span<const OutputWanted> outputs,
                                          RunControl* control) override {
    return session_->run(inputs, outputs, control);
  }

 private:
  const std::shared_ptr<const void> kept_;
  const std::shared_ptr<Session> session_;  // ends before what it reads
};

}  // namespace outboard::engine
