// SPDX-License-Identifier: Apache-2.0
#include "split/exec/split_engine.h"

#include "engine/forwarding.h"

namespace outboard::split::exec {
namespace {

class SplitEngine final : public engine::ForwardingEngine {
 public:
  SplitEngine(std::unique_ptr<engine::Engine> engine, std::function<SplitOptions()> options)
      : ForwardingEngine(std::move(engine)), options_(std::move(options)) {}

  Result<std::shared_ptr<engine::Session>> open(const std::string& path,
                                                const engine::OpenOptions& options) override {
    OB_TRY(auto own, real().open(path, options));
    // A program's own options may change what is computed: those sessions stay whole; so does one
    // that another host opens for whole images (split_manager.cc).
    const bool plain = options.free_dimensions_by_name.empty() &&
                       options.free_dimensions_by_denotation.empty() &&
                       options.graph_optimization_level == 99 && options.config_entries.empty();
    if (!plain) return own;
    return std::shared_ptr<engine::Session>(
        SplitSession::make(real(), std::move(own), path, options_()));
  }

 private:
  const std::function<SplitOptions()> options_;
};

}  // namespace

std::unique_ptr<engine::Engine> make_split_engine(std::unique_ptr<engine::Engine> engine,
                                                  std::function<SplitOptions()> options) {
  return std::make_unique<SplitEngine>(std::move(engine), std::move(options));
}

}  // namespace outboard::split::exec
