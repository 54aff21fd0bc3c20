// SPDX-License-Identifier: Apache-2.0
// One open model. Thread-safe: ONNX Runtime runs a session from any number of threads.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/onnxruntime/library.h"

namespace outboard::engine {

class OnnxRuntimeSession final : public Session {
 public:
  // Takes over a session of the library, and what must outlive it; reads its signature and
  // metadata.
  static Result<std::shared_ptr<Session>> make(std::shared_ptr<const Library> library,
                                               Owned<OrtSession> session,
                                               std::vector<Owned<OrtValue>> shared = {});

  const ModelInfo& info() const override { return info_; }
  Result<std::unique_ptr<RunOutputs>> run(std::span<const InputView> inputs,
                                          std::span<const OutputWanted> outputs,
                                          RunControl* control) override;

 private:
  OnnxRuntimeSession(std::shared_ptr<const Library> library, Owned<OrtSession> session,
                     std::vector<Owned<OrtValue>> shared);
  Result<void> read_values();
  Result<void> read_metadata();

  std::shared_ptr<const Library> library_;
  const std::vector<Owned<OrtValue>> shared_;  // released after the session
  Owned<OrtSession> session_;
  ModelInfo info_;
  std::vector<const char*> input_names_;  // point into info_
};

class OnnxRuntimeRunControl final : public RunControl {
 public:
  explicit OnnxRuntimeRunControl(std::shared_ptr<const Library> library);
  void terminate() override;
  void reset() override;
  const OrtRunOptions* options() const { return options_.get(); }
  bool is_terminated() const { return terminated_.load(); }

 private:
  std::shared_ptr<const Library> library_;
  Owned<OrtRunOptions> options_;
  std::atomic<bool> terminated_{false};
};

}  // namespace outboard::engine
