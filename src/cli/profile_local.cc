// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "cli/profile_host.h"
#include "engine/element_type.h"

namespace outboard::cli {
namespace {

constexpr int kLoads = 5;               // opened so often for the load time, unless it takes longer
constexpr double kLoadsLimit_us = 3e6;  // than this in all

double microseconds(Nanoseconds time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

class LocalSubject : public Subject {
 public:
  LocalSubject(std::shared_ptr<engine::Session> session, std::vector<InputTensor> inputs)
      : session_(std::move(session)), inputs_(std::move(inputs)) {
    strings_.reserve(inputs_.size());
    views_.reserve(inputs_.size());
    for (const InputTensor& input : inputs_) {
      const auto& strings = strings_.emplace_back(input.strings.begin(), input.strings.end());
      views_.push_back(
          {.type = input.type, .dims = input.dims, .data = input.data, .strings = strings});
    }
    outputs_.resize(session_->info().outputs.size());
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      outputs_[i].index = static_cast<std::uint32_t>(i);
  }

  Result<RunTimes> run() override {
    const Nanoseconds begin = Clock::monotonic().now();
    OB_TRY(const auto outputs, session_->run(views_, outputs_));
    RunTimes times;
    times.total_us = times.compute_us = microseconds(Clock::monotonic().now() - begin);
    return times;
  }

 private:
  std::shared_ptr<engine::Session> session_;
  std::vector<InputTensor> inputs_;
  std::vector<std::vector<std::string_view>> strings_;
  std::vector<engine::InputView> views_;
  std::vector<engine::OutputWanted> outputs_;
};

class LocalHost : public ProfileHost {
 public:
  LocalHost(std::unique_ptr<engine::Engine> engine, int threads)
      : engine_(std::move(engine)),
        name_(fmt::format("{} {}", engine_->name(), engine_->version())),
        threads_(threads) {
    device_.name = "local";
    device_.kind = engine_->device();
    if (device_.kind != "cpu") return;
    const auto cores = threads_ > 0 ? static_cast<unsigned>(threads_)
                                    : std::max(1u, std::thread::hardware_concurrency());
    device_.kind = fmt::format("cpu-{}", cores);
    device_.memory_bytes = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                           static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  }

  const std::string& engine() const override { return name_; }
  const profile::Device& device() const override { return device_; }
  const std::optional<LinkReport>& link() const override { return link_; }

  Result<OpenedModel> open(const std::string& path, const ShapeChoices& shapes,
                           const std::atomic<bool>& stop, ProgressLine& progress) override {
    OpenedModel opened;
    const bool host_memory = engine_->device() == "cpu";
    const std::uint64_t before_bytes = host_memory ? trimmed_resident_bytes() : 0;
    progress.show(fmt::format("opening {}", path));
    OB_TRY(auto session, timed_open(path, opened.load_us));
    OB_TRY(auto inputs, make_inputs(session->info().inputs, shapes, 1));
    opened.inputs = describe(session->info().inputs, inputs);
    auto subject = std::make_unique<LocalSubject>(std::move(session), inputs);
    if (auto first = subject->run(); !first)  // also what makes the engine take its memory
      return tl::make_unexpected(
          std::move(first).error().while_doing("running it for the first time"));
    if (const std::uint64_t now_bytes = host_memory ? trimmed_resident_bytes() : 0;
        now_bytes > before_bytes)
      opened.memory_bytes = now_bytes - before_bytes;
    while (!stop && opened.load_us.size() < kLoads &&
           std::accumulate(opened.load_us.begin(), opened.load_us.end(), 0.0) < kLoadsLimit_us) {
      subject.reset();  // one at a time: two may not fit
      progress.show(fmt::format("opening {} again", path));
      OB_TRY(auto again, timed_open(path, opened.load_us));
      subject = std::make_unique<LocalSubject>(std::move(again), inputs);
    }
    opened.subject = std::move(subject);
    return opened;
  }

 private:
  Result<std::shared_ptr<engine::Session>> timed_open(const std::string& path,
                                                      std::vector<double>& load_us) {
    engine::OpenOptions options;
    options.intra_op_threads = threads_;
    const Nanoseconds begin = Clock::monotonic().now();
    OB_TRY(auto session, engine_->open(path, options));
    load_us.push_back(microseconds(Clock::monotonic().now() - begin));
    return session;
  }

  const std::unique_ptr<engine::Engine> engine_;
  const std::string name_;
  const int threads_;
  profile::Device device_;
  const std::optional<LinkReport> link_;
};

}  // namespace

Result<std::unique_ptr<ProfileHost>> make_local_host(const engine::OnnxRuntimeOptions& options,
                                                     int threads) {
  OB_TRY(auto engine, engine::load_onnxruntime(options));
  return std::unique_ptr<ProfileHost>(std::make_unique<LocalHost>(std::move(engine), threads));
}

std::vector<NamedInput> describe(const std::vector<engine::ValueInfo>& infos,
                                 const std::vector<InputTensor>& tensors) {
  std::vector<NamedInput> described;
  described.reserve(infos.size());
  for (std::size_t i = 0; i < infos.size(); ++i)
    described.push_back(
        {infos[i].name, std::string(engine::name_of(infos[i].type)), tensors[i].dims});
  return described;
}

}  // namespace outboard::cli
