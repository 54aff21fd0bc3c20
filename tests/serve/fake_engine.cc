// SPDX-License-Identifier: Apache-2.0
#include "tests/serve/fake_engine.h"

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "base/clock.h"

namespace outboard::serve {
namespace {

using Stage = FakeEngine::Stage;

class Control final : public engine::RunControl {
 public:
  explicit Control(std::shared_ptr<Stage> stage) : stage_(std::move(stage)) {}
  void terminate() override {
    const std::lock_guard lock(stage_->mutex);
    terminated = true;
    stage_->changed.notify_all();
  }
  void reset() override {
    const std::lock_guard lock(stage_->mutex);
    terminated = false;
  }
  bool terminated = false;  // under the stage's mutex

 private:
  const std::shared_ptr<Stage> stage_;
};

class Outputs final : public engine::RunOutputs {
 public:
  Outputs(const engine::InputView& input, const engine::OutputBuffer* buffer) {
    std::span<const std::byte> data;
    if (buffer != nullptr) {
      std::copy(input.data.begin(), input.data.end(), buffer->data.begin());
      data = buffer->data;
    } else {
      bytes_.assign(input.data.begin(), input.data.end());
      data = bytes_;
    }
    values_.push_back(
        {.type = input.type, .dims = {input.dims.begin(), input.dims.end()}, .data = data});
  }

 private:
  std::vector<std::byte> bytes_;
};

class Texts final : public engine::RunOutputs {
 public:
  explicit Texts(std::size_t count) {
    values_.push_back({.type = engine::ElementType::kString,
                       .dims = {static_cast<std::int64_t>(count)},
                       .strings = std::vector<std::string_view>(count)});
  }
};

[[noreturn]] void hang() {
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  for (;;) never.wait(lock);
}

class Session final : public engine::Session {
 public:
  Session(std::shared_ptr<Stage> stage, std::string word, std::string external = {})
      : stage_(std::move(stage)), word_(std::move(word)), external_(std::move(external)) {
    stage_->opened++;
    stage_->alive++;
    engine::ValueInfo value{.name = "x",
                            .kind = "tensor",
                            .type = engine::ElementType::kFloat,
                            .has_shape = true,
                            .dims = {-1},
                            .dim_names = {"n"}};
    info_.inputs.push_back(value);
    if (word_ == "fixed") info_.inputs.back().dims = {65536};
    value.name = "y";
    if (word_ == "fixed" || word_ == "lying") value.dims = {65536};
    if (word_ == "texts") value.type = engine::ElementType::kString;
    if (word_ == "sequence") {
      value.kind = "sequence";
      value.type = engine::ElementType::kUndefined;
    }
    info_.outputs.push_back(value);
    info_.producer = "fake " + word_;
  }
  ~Session() override { stage_->alive--; }

  const engine::ModelInfo& info() const override { return info_; }

  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> inputs,
                                                  std::span<const engine::OutputWanted> wanted,
                                                  engine::RunControl* control) override {
    if (word_ == "fail")
      return tl::make_unexpected(Error{ErrorKind::kEngine, "the fake engine fails", 6});
    if (word_ == "crash") ::raise(SIGSEGV);
    if (word_ == "hang") hang();
    if (word_ == "escape") return outputs_of(as_text(stage_->escape()));
    if (word_ == "external") return outputs_of(external_);
    if (word_ == "big")
      return outputs_of(std::string(inputs[0].data.size() / sizeof(float) << 20, 'b'));
    if (word_ == "texts")
      return std::unique_ptr<engine::RunOutputs>(
          std::make_unique<Texts>(inputs[0].data.size() / sizeof(float) << 18));
    if (word_ == "block" && !wait(inputs[0], static_cast<Control&>(*control)))
      return tl::make_unexpected(Error{ErrorKind::kCancelled, "terminated", 1});
    if (word_.starts_with("burn")) burn(std::chrono::milliseconds(std::stoi(word_.substr(4))));
    const engine::OutputBuffer* const buffer = wanted.empty() ? nullptr : wanted[0].buffer;
    if (buffer != nullptr && buffer->data.size() != inputs[0].data.size())
      return tl::make_unexpected(Error{ErrorKind::kEngine, "the output has another shape", 2});
    auto outputs = std::make_unique<Outputs>(inputs[0], buffer);
    stage_->last_input = inputs[0].data.data();
    stage_->last_output = outputs->values()[0].data.data();
    return std::unique_ptr<engine::RunOutputs>(std::move(outputs));
  }

 private:
  static Result<std::unique_ptr<engine::RunOutputs>> outputs_of(const std::string& bytes) {
    const std::int64_t size = static_cast<std::int64_t>(bytes.size() / sizeof(float));
    const engine::InputView view{.type = engine::ElementType::kFloat,
                                 .dims = std::span(&size, 1),
                                 .data = std::as_bytes(std::span(bytes))};
    return std::unique_ptr<engine::RunOutputs>(std::make_unique<Outputs>(view, nullptr));
  }
  static std::string as_text(const std::vector<float>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  }
  bool wait(const engine::InputView& input, Control& control) {
    std::unique_lock lock(stage_->mutex);
    if (input.data.size() >= sizeof(float))
      std::memcpy(&stage_->latest, input.data.data(), sizeof(float));
    ++stage_->running;
    stage_->most = std::max(stage_->most, stage_->running);
    stage_->changed.notify_all();
    stage_->changed.wait(lock, [&] { return stage_->permits > 0 || control.terminated; });
    --stage_->running;
    stage_->changed.notify_all();
    if (control.terminated) return false;
    --stage_->permits;
    return true;
  }

  static void burn(Nanoseconds time) {
    const auto used = [] {
      timespec now{};
      ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
      return std::chrono::seconds(now.tv_sec) + Nanoseconds(now.tv_nsec);
    };
    for (const Nanoseconds end = used() + time; used() < end;) {
    }
  }

  const std::shared_ptr<Stage> stage_;
  const std::string word_, external_;
  engine::ModelInfo info_;
};

}  // namespace

void Stage::wait_for_running(int count) {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return running == count; });
}

void Stage::release(int count) {
  const std::lock_guard lock(mutex);
  permits += count;
  changed.notify_all();
}

void Stage::hold_openings() {
  const std::lock_guard lock(mutex);
  openings_held = true;
}

void Stage::wait_for_opening(int count) {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return opening >= count; });
}

void Stage::let_open() {
  const std::lock_guard lock(mutex);
  openings_held = false;
  changed.notify_all();
}

Result<std::shared_ptr<engine::Session>> FakeEngine::open(const std::string& path,
                                                          const engine::OpenOptions&) {
  std::ifstream file(path, std::ios::binary);
  return open_text(std::string((std::istreambuf_iterator<char>(file)), {}), {});
}

Result<std::shared_ptr<engine::Session>> FakeEngine::open_text(const std::string& text,
                                                               const engine::OpenOptions& options) {
  const std::string word = text.substr(0, text.find_first_of(" \n"));
  {
    std::unique_lock lock(stage->mutex);
    ++stage->opening;
    stage->changed.notify_all();
    stage->changed.wait(lock, [&] { return !stage->openings_held; });
  }
  if (word == "reject")
    return tl::make_unexpected(Error{ErrorKind::kEngine, "the fake engine rejects it", 7});
  if (word == "crash-open") ::abort();
  if (word == "hang-open") hang();
  std::string external;
  for (const engine::ExternalFile& file : options.external_files)
    external.append(reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size());
  return std::shared_ptr<engine::Session>(std::make_shared<Session>(stage, word, external));
}

Result<std::shared_ptr<engine::Session>> FakeEngine::open_bytes(
    std::span<const std::byte> model, const engine::OpenOptions& options) {
  return open_text(std::string(reinterpret_cast<const char*>(model.data()), model.size()), options);
}

std::unique_ptr<engine::RunControl> FakeEngine::make_run_control() {
  return std::make_unique<Control>(stage);
}

}  // namespace outboard::serve
