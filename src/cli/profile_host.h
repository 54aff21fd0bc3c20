// SPDX-License-Identifier: Apache-2.0
// Where models are profiled: in this process, or on a server. One thread at a time.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/profile_inputs.h"
#include "cli/profile_measure.h"
#include "cli/profile_report.h"
#include "cli/progress.h"
#include "engine/onnxruntime/engine.h"
#include "wire/access.h"

namespace outboard::cli {

// A model opened with its inputs. The subject borrows the host.
struct OpenedModel {
  std::unique_ptr<Subject> subject;
  std::vector<NamedInput> inputs;
  std::vector<double> load_us;
  std::uint64_t memory_bytes = 0;  // 0: not known
};

class ProfileHost {
 public:
  virtual ~ProfileHost() = default;
  virtual const std::string& engine() const = 0;  // "onnxruntime 1.31.1"
  virtual const profile::Device& device() const = 0;
  virtual const std::optional<LinkReport>& link() const = 0;
  // Opens the model at `path`, several times where that tells something (load_us has each), and
  // makes its inputs. Ends early when `stop` is set. Errors: those of the engine or of the client.
  virtual Result<OpenedModel> open(const std::string& path, const ShapeChoices& shapes,
                                   const std::atomic<bool>& stop, ProgressLine& progress) = 0;
};

// `threads` of the session (0: one a core, as the engine does).
Result<std::unique_ptr<ProfileHost>> make_local_host(const engine::OnnxRuntimeOptions& options,
                                                     int threads);
// Connects, and measures the link with echoes of several sizes.
Result<std::unique_ptr<ProfileHost>> make_remote_host(const wire::Access& server,
                                                      const std::atomic<bool>& stop,
                                                      ProgressLine& progress);

std::vector<NamedInput> describe(const std::vector<engine::ValueInfo>& infos,
                                 const std::vector<InputTensor>& tensors);

}  // namespace outboard::cli
