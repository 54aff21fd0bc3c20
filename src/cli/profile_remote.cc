// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/clock.h"
#include "cli/profile_host.h"
#include "engine/element_type.h"
#include "serve/convert.h"
#include "wire/client.h"

namespace outboard::cli {
namespace {

constexpr std::size_t kEchoSizes[] = {0, 4u << 10, 16u << 10, 48u << 10};
constexpr int kEchoRounds = 40;
constexpr auto kEchoLimit = std::chrono::seconds(3);

// Outputs into memory that is kept from Run to Run.
class KeptOutputs : public wire::OutputSink {
 public:
  explicit KeptOutputs(std::size_t count) : buffers_(count) {}
  Result<std::span<std::byte>> allocate(std::size_t index,
                                        const wire::TensorHeader& header) override {
    std::vector<std::byte>& buffer = buffers_[index];
    if (buffer.size() < header.data_bytes) buffer.resize(header.data_bytes);
    return std::span(buffer).first(header.data_bytes);
  }
  Result<void> strings(std::size_t, const wire::TensorHeader&,
                       std::span<const std::string_view>) override {
    return {};
  }

 private:
  std::vector<std::vector<std::byte>> buffers_;
};

class RemoteSubject : public Subject {
 public:
  RemoteSubject(std::shared_ptr<wire::RemoteSession> session, std::vector<InputTensor> inputs)
      : session_(std::move(session)),
        inputs_(std::move(inputs)),
        sink_(session_->description().outputs.size()) {
    views_.reserve(inputs_.size());
    for (InputTensor& input : inputs_) {
      if (input.type == engine::ElementType::kString) {
        const std::vector<std::string_view> strings(input.strings.begin(), input.strings.end());
        const std::string bytes = wire::encode_strings(strings);
        input.data.resize(bytes.size());
        std::memcpy(input.data.data(), bytes.data(), bytes.size());
      }
      views_.push_back({.header = {.type = static_cast<wire::ElementType>(input.type),
                                   .dims = input.dims,
                                   .data_bytes = input.data.size()},
                        .data = input.data});
    }
    outputs_.resize(session_->description().outputs.size());
    for (std::size_t i = 0; i < outputs_.size(); ++i) outputs_[i] = static_cast<std::uint32_t>(i);
  }

  Result<RunTimes> run() override {
    OB_TRY(const wire::RunAccount account, session_->run(outputs_, views_, sink_));
    RunTimes times;
    times.send_us = static_cast<double>(account.send_ns) / 1e3;
    times.queue_us = static_cast<double>(account.server.queue_ns) / 1e3;
    times.compute_us = static_cast<double>(account.server.compute_ns) / 1e3;
    times.receive_us = static_cast<double>(account.receive_ns) / 1e3;
    times.total_us = times.send_us + static_cast<double>(account.wait_ns) / 1e3 + times.receive_us;
    times.request_bytes = account.bytes_sent;
    times.reply_bytes = account.bytes_received;
    times.server_receive_us = static_cast<double>(account.server.receive_ns) / 1e3;
    return times;
  }

 private:
  std::shared_ptr<wire::RemoteSession> session_;
  std::vector<InputTensor> inputs_;
  KeptOutputs sink_;
  std::vector<wire::InputTensor> views_;
  std::vector<std::uint32_t> outputs_;
};

// What the profile takes from a server's status; zeroes for what it does not say.
struct ServerState {
  std::uint64_t resident_bytes = 0;
  int slots = 1;
  bool has_session = false;  // of the model that was asked about
  double open_us = 0;        // what opening it took there
};

ServerState read_status(const std::string& text, const std::string& model_id) {
  ServerState state;
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return state;
  const auto number = [](const nlohmann::json& object, const char* key, double absent) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number() ? found->get<double>() : absent;
  };
  state.resident_bytes =
      static_cast<std::uint64_t>(std::max(0.0, number(json, "resident_bytes", 0)));
  state.slots = std::clamp(static_cast<int>(number(json, "slots", 1)), 1, 1024);
  const auto sessions = json.find("sessions");
  if (sessions == json.end() || !sessions->is_array()) return state;
  for (const auto& session : *sessions) {
    if (!session.is_object() || session.value("model", std::string()) != model_id) continue;
    state.has_session = true;
    state.open_us = number(session, "open_ms", 0) * 1e3;
  }
  return state;
}

class RemoteHost : public ProfileHost {
 public:
  explicit RemoteHost(const wire::Access& server)
      : client_(server, [] {
          wire::ClientOptions options;
          options.software = "outboard profile";
          return options;
        }()) {}

  Result<void> connect(const std::atomic<bool>& stop, ProgressLine& progress) {
    OB_TRY(const wire::HelloReply hello, client_.hello());
    engine_ = hello.engine;
    device_.name = client_.endpoint().to_string();
    device_.kind = hello.device;
    OB_TRY(const std::string status, client_.status());
    device_.servers = read_status(status, {}).slots;
    return measure_link(stop, progress);
  }

  const std::string& engine() const override { return engine_; }
  const profile::Device& device() const override { return device_; }
  const std::optional<LinkReport>& link() const override { return link_; }

  Result<OpenedModel> open(const std::string& path, const ShapeChoices& shapes,
                           const std::atomic<bool>& stop, ProgressLine& progress) override {
    progress.show(fmt::format("reading {}", path));
    OB_TRY(const auto package, wire::ModelPackage::from_path(path));
    OB_TRY(const wire::ModelState state, client_.query(package->manifest()));
    if (!state.complete) {
      OB_CHECK_OK(client_.upload(*package, [&](std::uint64_t done, std::uint64_t total) {
        progress.show_bytes("uploading", done, total);
        return !stop;
      }));
    }
    const std::string id = package->id().hex();
    OB_TRY(const std::string before_text, client_.status());
    const ServerState before = read_status(before_text, id);
    progress.show(fmt::format("opening {} on the server", path));
    const Nanoseconds begin = Clock::monotonic().now();
    OB_TRY(auto session, client_.open(package->id(), {}));
    const double open_us =
        std::chrono::duration<double, std::micro>(Clock::monotonic().now() - begin).count();
    OpenedModel opened;
    const auto infos = serve::to_engine(session->description()).inputs;
    OB_TRY(auto inputs, make_inputs(infos, shapes, 1));
    opened.inputs = describe(infos, inputs);
    opened.subject = std::make_unique<RemoteSubject>(std::move(session), std::move(inputs));
    if (auto first = opened.subject->run(); !first)  // also what makes the engine take its memory
      return tl::make_unexpected(
          std::move(first).error().while_doing("running it for the first time"));
    OB_TRY(const std::string after_text, client_.status());
    const ServerState after = read_status(after_text, id);
    // The server's own figure also holds where the session was open before.
    opened.load_us.push_back(after.open_us > 0 ? after.open_us : open_us);
    if (!before.has_session && before.resident_bytes > 0 &&
        after.resident_bytes > before.resident_bytes)
      opened.memory_bytes = after.resident_bytes - before.resident_bytes;
    return opened;
  }

 private:
  Result<void> measure_link(const std::atomic<bool>& stop, ProgressLine& progress) {
    std::vector<profile::Echo> echoes;
    std::vector<double> empty_us;
    const Deadline limit = Deadline::in(kEchoLimit);
    for (int round = 0; round < kEchoRounds && !stop; ++round) {
      if (round > 1 && Clock::monotonic().now() > limit.at) break;
      progress.show(fmt::format("measuring the link to {}", device_.name));
      for (const std::size_t size : kEchoSizes) {
        OB_TRY(const auto time, client_.ping(size));
        const double us = std::chrono::duration<double, std::micro>(time).count();
        if (round == 0) continue;  // the first ones open the connection's windows
        echoes.push_back({size, us});
        if (size == 0) empty_us.push_back(us);
      }
    }
    if (empty_us.empty()) return {};  // interrupted before there was anything
    OB_TRY(const profile::Link link, profile::fit_echoes(echoes));
    OB_TRY(device_.network, profile::Distribution::from_samples(empty_us));
    link_ = LinkReport{device_.name, {.up = link, .down = link}, device_.network};
    return {};
  }

  wire::Client client_;
  std::string engine_;
  profile::Device device_;
  std::optional<LinkReport> link_;
};

}  // namespace

Result<std::unique_ptr<ProfileHost>> make_remote_host(const wire::Access& server,
                                                      const std::atomic<bool>& stop,
                                                      ProgressLine& progress) {
  auto host = std::make_unique<RemoteHost>(server);
  OB_CHECK_OK(host->connect(stop, progress));
  return std::unique_ptr<ProfileHost>(std::move(host));
}

}  // namespace outboard::cli
