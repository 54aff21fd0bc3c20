// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/sim/engine.h"

#include <condition_variable>
#include <cstring>
#include <fstream>
#include <iterator>
#include <mutex>

namespace outboard::sim {
namespace {

class Control final : public engine::RunControl {
 public:
  void terminate() override {
    const std::lock_guard lock(mutex_);
    terminated_ = true;
    changed_.notify_all();
  }
  void reset() override {
    const std::lock_guard lock(mutex_);
    terminated_ = false;
  }
  bool compute_for(std::chrono::microseconds time) {
    std::unique_lock lock(mutex_);
    return !changed_.wait_for(lock, time, [&] { return terminated_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool terminated_ = false;
};

class Outputs final : public engine::RunOutputs {
 public:
  Outputs(const Affine& map, const engine::InputView& input, bool lies)
      : y_(input.data.size() / 4) {
    std::memcpy(y_.data(), input.data.data(), input.data.size());
    for (float& y : y_) y = map(y);
    if (lies && !y_.empty()) y_.back() = -1 - y_.back();
    values_.push_back({.type = input.type,
                       .dims = {input.dims.begin(), input.dims.end()},
                       .data = std::as_bytes(std::span(y_))});
  }

 private:
  std::vector<float> y_;
};

class Session final : public engine::Session {
 public:
  Session(std::shared_ptr<EngineState> state, const Affine& map)
      : state_(std::move(state)), map_(map) {
    state_->alive++;
    engine::ValueInfo value{.name = std::string("x"),
                            .kind = "tensor",
                            .type = engine::ElementType::kFloat,
                            .has_shape = true,
                            .dims = {-1},
                            .dim_names = {"n"}};
    info_.inputs.push_back(value);
    value.name = std::string("y");
    info_.outputs.push_back(value);
  }
  ~Session() override { state_->alive--; }
  const engine::ModelInfo& info() const override { return info_; }

  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> inputs,
                                                  std::span<const engine::OutputWanted>,
                                                  engine::RunControl* control) override {
    state_->computing++;
    const bool whole = static_cast<Control&>(*control).compute_for(map_.remote);
    state_->computing--;
    if (!whole) return tl::make_unexpected(Error{ErrorKind::kCancelled, "terminated", 1});
    return std::unique_ptr<engine::RunOutputs>(
        std::make_unique<Outputs>(map_, inputs[0], state_->lies.load()));
  }

 private:
  const std::shared_ptr<EngineState> state_;
  const Affine map_;
  engine::ModelInfo info_;
};

class AffineEngine final : public engine::Engine {
 public:
  explicit AffineEngine(std::shared_ptr<EngineState> state) : state_(std::move(state)) {}
  std::string name() const override { return "affine"; }
  std::string version() const override { return "1.0"; }
  std::string device() const override { return "cpu"; }
  std::vector<std::string> available_providers() const override { return {}; }
  Result<std::shared_ptr<engine::Session>> open(const std::string& path,
                                                const engine::OpenOptions&) override {
    if (state_->short_of_memory)
      return tl::make_unexpected(Error{ErrorKind::kOverloaded, "std::bad_alloc", 1});
    std::ifstream file(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    return std::shared_ptr<engine::Session>(std::make_shared<Session>(state_, Affine::parse(text)));
  }
  Result<std::shared_ptr<engine::Session>> open_bytes(std::span<const std::byte>,
                                                      const engine::OpenOptions&) override {
    return error(ErrorKind::kUnimplemented, "the simulated engine opens files");
  }
  std::unique_ptr<engine::RunControl> make_run_control() override {
    return std::make_unique<Control>();
  }

 private:
  const std::shared_ptr<EngineState> state_;
};

}  // namespace

std::unique_ptr<engine::Engine> make_affine_engine(std::shared_ptr<EngineState> state) {
  return std::make_unique<AffineEngine>(std::move(state));
}

}  // namespace outboard::sim
