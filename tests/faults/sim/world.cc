// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/sim/world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>
#include <utility>

#include "base/check.h"
#include "tests/faults/sim/engine.h"

namespace outboard::sim {
namespace {

using intercept::LocalModel;
using std::chrono::milliseconds;

std::map<Group, intercept::Process*>& processes_by_group() {
  static auto* made = new std::map<Group, intercept::Process*>;
  return *made;
}

class LocalAffine final : public LocalModel {
 public:
  explicit LocalAffine(const Affine& m) : map(m) {}
  Result<void> run(std::span<const std::uint32_t>, std::span<const wire::InputTensor> inputs,
                   wire::OutputSink& outputs, wire::CancelToken* cancel) override {
    const std::span<const std::byte> x = inputs[0].data;
    std::this_thread::sleep_for(map.local);
    if (cancel != nullptr && cancel->is_cancelled()) return error(ErrorKind::kEngine, "terminated");
    OB_TRY(const std::span<std::byte> y, outputs.allocate(0, inputs[0].header));
    for (std::size_t at = 0; at < x.size(); at += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, x.data() + at, sizeof value);
      value = map(value);
      std::memcpy(y.data() + at, &value, sizeof value);
    }
    return {};
  }
  const Affine map;
};

// A Run of a program: its inputs, and its outputs once it is done.
class AffineRun final : public intercept::ProgramRun, public wire::OutputSink {
 public:
  explicit AffineRun(std::vector<float> x) : x_(std::move(x)) {
    wire::InputTensor tensor;
    tensor.header.type = wire::ElementType::kFloat;
    tensor.header.dims = {static_cast<std::int64_t>(x_.size())};
    tensor.data = std::as_bytes(std::span(x_));
    tensor.header.data_bytes = tensor.data.size();
    inputs_.push_back(std::move(tensor));
  }

  std::span<const std::uint32_t> wanted() const override { return wanted_; }
  std::span<const wire::InputTensor> inputs() const override { return inputs_; }
  wire::OutputSink& outputs() override { return *this; }
  wire::CancelToken* cancel() const override { return nullptr; }
  Result<void> run_here(LocalModel& model) override {
    const Affine& map = static_cast<LocalAffine&>(model).map;
    std::this_thread::sleep_for(map.local);
    y_.resize(x_.size());
    std::transform(x_.begin(), x_.end(), y_.begin(), map);
    return {};
  }

  Result<std::span<std::byte>> allocate(std::size_t, const wire::TensorHeader& header) override {
    y_.assign(header.data_bytes / sizeof(float), 0);
    return std::as_writable_bytes(std::span(y_));
  }
  Result<void> strings(std::size_t, const wire::TensorHeader&,
                       std::span<const std::string_view>) override {
    return error(ErrorKind::kInvalid, "no output is a string");
  }

  bool is_right(const Affine& map) const {
    return y_.size() == x_.size() && std::equal(x_.begin(), x_.end(), y_.begin(),
                                                [&](float x, float y) { return map(x) == y; });
  }

 private:
  const std::vector<float> x_;
  std::vector<float> y_;
  const std::vector<std::uint32_t> wanted_{0};
  std::vector<wire::InputTensor> inputs_;
};

}  // namespace

std::string Affine::text() const {
  return fmt::format("affine {} {} {} {}\n", scale, offset, remote.count(), local.count());
}

Affine Affine::parse(const std::string& text) {
  std::istringstream words(text);
  std::string word;
  Affine map;
  std::int64_t remote = 0, local = 0;
  words >> word >> map.scale >> map.offset >> remote >> local;
  map.remote = std::chrono::microseconds(remote);
  map.local = std::chrono::microseconds(local);
  return map;
}

// ---- the server

ServerProcess::ServerProcess(const std::string& folder, std::uint64_t store_limit_bytes)
    : folder_(folder), engine_(std::make_shared<EngineState>()) {
  start(store_limit_bytes);
}

ServerProcess::~ServerProcess() { kill(); }

void ServerProcess::start(std::uint64_t store_limit_bytes) {
  as_group(kServer, [&] {
    serve::ServerOptions options;
    options.store = {.folder = folder_, .limit_bytes = store_limit_bytes};
    auto started = serve::Server::start(make_affine_engine(engine_), std::move(options));
    OB_CHECK(started.has_value());
    server_ = std::move(*started);
  });
}

void ServerProcess::kill() {
  as_group(kServer, [&] { server_.reset(); });
}

void ServerProcess::empty_store() { std::filesystem::remove_all(folder_); }

void ServerProcess::accept(std::unique_ptr<wire::Stream> stream) {
  if (server_ != nullptr) server_->serve(std::move(stream));
}

// ---- a client

void set_process_of(Group group, intercept::Process* process) {
  if (process == nullptr) {
    processes_by_group().erase(group);
  } else {
    processes_by_group()[group] = process;
  }
}

void install_processes() {
  on_group_switch([](Group group) {
    const auto found = processes_by_group().find(group);
    intercept::Process::exchange_current(found == processes_by_group().end() ? nullptr
                                                                             : found->second);
  });
}

ClientProcess::ClientProcess(Group group, Network& network, const Affine& model,
                             intercept::Config config)
    : group_(group), network_(network), model_(model), config_(std::move(config)) {
  fork();
  as_group(group_, [&] {
    const std::string text = model_.text();
    auto package =
        wire::ModelPackage::from_bytes(std::as_bytes(std::span(text)), wire::Spool::kMemory);
    OB_CHECK(package.has_value());
    intercept::SessionSpec spec;
    spec.model_name = "affine";
    spec.package = *package;
    spec.open_local = [map = model_]() -> Result<std::shared_ptr<LocalModel>> {
      return std::make_shared<LocalAffine>(map);
    };
    session_ = std::make_shared<intercept::Session>(std::move(spec));
    if (!session_->attach_now(config_.mode == intercept::Mode::kRemote)) {
      session_->set_local(std::make_shared<LocalAffine>(model_));
      session_->attach_later();
    }
  });
}

ClientProcess::~ClientProcess() { set_process_of(group_, nullptr); }

void ClientProcess::fork() {
  // Here both would share one session, where really each has a copy: the parent's threads go first.
  for (const auto& process : processes_)
    for (const auto& link : process->links()) link->stop();
  if (!processes_.empty())
    wait_until([&] { return threads_of(group_) == 0; }, std::chrono::minutes(2));
  wire::ClientOptions options;
  options.connect = [this] { return network_.connect(limits::kStallTimeout); };
  processes_.push_back(
      std::make_unique<intercept::Process>(processes_.size() + 1, config_, std::move(options)));
  set_process_of(group_, processes_.back().get());
}

void ClientProcess::start(std::size_t threads, milliseconds pause, std::uint64_t seed) {
  stopping_ = false;
  as_group(group_, [&] {
    for (std::size_t i = 0; i < threads; ++i)
      threads_.emplace_back([this, pause, own = seed * 100 + i] { work(own, pause); });
  });
}

void ClientProcess::stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool ClientProcess::end() {
  as_group(group_, [&] { session_.reset(); });
  for (const auto& process : processes_)
    for (const auto& link : process->links()) link->stop();
  const bool ended = wait_until([&] { return threads_of(group_) == 0; }, std::chrono::minutes(2));
  if (ended) as_group(group_, [&] { processes_.clear(); });
  return ended;
}

intercept::AccountFigures ClientProcess::figures() const {
  intercept::AccountFigures figures;
  as_group(group_, [&] { figures = session_->account().figures(); });
  return figures;
}

void ClientProcess::run_once(Random& random) {
  std::vector<float> x(random.between(least_elements_, most_elements_));
  for (float& value : x) value = static_cast<float>(random.below(1u << 20));
  AffineRun run(std::move(x));
  const auto start = now();
  const auto done = intercept::answer(*session_, run);
  const std::int64_t took = (now() - start).count();
  statistics_.runs++;
  if (!done) {
    statistics_.failed++;
    log_error("a Run failed: {}", done.error().message);
  } else if (!run.is_right(model_)) {
    statistics_.wrong++;
  }
  if (took > statistics_.longest_ns) statistics_.longest_ns = took;
}

void ClientProcess::work(std::uint64_t seed, milliseconds pause) {
  Random random(seed);
  while (!stopping_) {
    run_once(random);
    std::this_thread::sleep_for(
        milliseconds(random.below(static_cast<std::uint64_t>(pause.count()) + 1)));
  }
}

}  // namespace outboard::sim
