// SPDX-License-Identifier: Apache-2.0
#include "split/exec/split_engine.h"

namespace outboard::split::exec {
namespace {

class SplitEngine final : public engine::Engine {
 public:
  SplitEngine(std::unique_ptr<engine::Engine> engine, std::function<SplitOptions()> options)
      : engine_(std::move(engine)), options_(std::move(options)) {}

  std::string name() const override { return engine_->name(); }
  std::string version() const override { return engine_->version(); }
  std::string device() const override { return engine_->device(); }
  std::vector<std::string> available_providers() const override {
    return engine_->available_providers();
  }
  Result<std::shared_ptr<engine::Session>> open(const std::string& path,
                                                const engine::OpenOptions& options) override {
    OB_TRY(auto own, engine_->open(path, options));
    // A program's own options may change what is computed: those sessions stay whole; so does one
    // that another host opens for whole images (split_manager.cc).
    const bool plain = options.free_dimensions_by_name.empty() &&
                       options.free_dimensions_by_denotation.empty() &&
                       options.graph_optimization_level == 99 && options.config_entries.empty();
    if (!plain) return own;
    return std::shared_ptr<engine::Session>(
        SplitSession::make(*engine_, std::move(own), path, options_()));
  }
  Result<std::shared_ptr<engine::Session>> open_bytes(std::span<const std::byte> model,
                                                      const engine::OpenOptions& options) override {
    return engine_->open_bytes(model, options);
  }
  std::unique_ptr<engine::RunControl> make_run_control() override {
    return engine_->make_run_control();
  }

 private:
  const std::unique_ptr<engine::Engine> engine_;
  const std::function<SplitOptions()> options_;
};

}  // namespace

std::unique_ptr<engine::Engine> make_split_engine(std::unique_ptr<engine::Engine> engine,
                                                  std::function<SplitOptions()> options) {
  return std::make_unique<SplitEngine>(std::move(engine), std::move(options));
}

}  // namespace outboard::split::exec
