// SPDX-License-Identifier: Apache-2.0
// A server that says it has a GPU and computes on the CPU, so that what a program sees of a
// server's GPU can be tested where there is none. What sessions ask for is printed, a line each.
// With `--lies yes` a bit in the middle of each output of numbers is not what it should be.
//
//   claiming_server serve --listen ADDRESS --store FOLDER --ready-file FILE --ort-library FILE
//                   [--lies yes]
#include <signal.h>

#include <cstdio>
#include <map>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/files.h"
#include "engine/forwarding.h"
#include "engine/onnxruntime/engine.h"
#include "serve/server.h"

namespace outboard {
namespace {

// Another Run's outputs with a flipped bit: the highest of the byte in the middle.
class WrongOutputs final : public engine::RunOutputs {
 public:
  explicit WrongOutputs(std::unique_ptr<engine::RunOutputs> right) : right_(std::move(right)) {
    values_ = right_->values();
    data_.resize(values_.size());
    for (std::size_t i = 0; i < values_.size(); ++i) {
      data_[i].assign(values_[i].data.begin(), values_[i].data.end());
      if (data_[i].empty()) continue;
      data_[i][data_[i].size() / 8 * 4 + 3] ^= std::byte{0x40};
      values_[i].data = data_[i];
    }
  }

 private:
  const std::unique_ptr<engine::RunOutputs> right_;
  std::vector<std::vector<std::byte>> data_;
};

class LyingSession final : public engine::Session {
 public:
  explicit LyingSession(std::shared_ptr<engine::Session> real) : real_(std::move(real)) {}
  const engine::ModelInfo& info() const override { return real_->info(); }
  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> inputs,
                                                  std::span<const engine::OutputWanted> outputs,
                                                  engine::RunControl* control) override {
    OB_TRY(auto right, real_->run(inputs, outputs, control));
    return std::unique_ptr<engine::RunOutputs>(std::make_unique<WrongOutputs>(std::move(right)));
  }

 private:
  const std::shared_ptr<engine::Session> real_;
};

class ClaimingEngine final : public engine::ForwardingEngine {
 public:
  ClaimingEngine(std::unique_ptr<engine::Engine> real, bool lies)
      : ForwardingEngine(std::move(real)), lies_(lies) {}
  std::string device() const override { return "cuda:0"; }
  std::vector<std::string> available_providers() const override {
    return {"TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"};
  }
  Result<std::shared_ptr<engine::Session>> open(const std::string& path,
                                                const engine::OpenOptions& options) override {
    std::string line = "session";
    for (const engine::Provider& provider : options.providers) {
      line += " " + provider.name;
      for (const auto& [key, value] : provider.options) line.append(" ").append(key + "=" + value);
    }
    for (const auto& [key, value] : options.config_entries)
      line.append(" ").append(key + "=" + value);
    std::printf("options level=%u parallel=%d\n", options.graph_optimization_level,
                static_cast<int>(options.parallel_execution));
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
    auto session = real().open(path, options);
    if (!session || !lies_) return session;
    return std::shared_ptr<engine::Session>(std::make_shared<LyingSession>(*session));
  }

 private:
  const bool lies_;
};

Result<void> serve_until_signal(std::map<std::string, std::string> arguments) {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  OB_TRY(auto engine,
         engine::load_onnxruntime({.library = arguments["--ort-library"], .shared_threads = true}));
  serve::ServerOptions options;
  OB_TRY(auto endpoint, wire::parse_endpoint(arguments["--listen"]));
  options.listen.push_back(std::move(endpoint));
  options.store.folder = arguments["--store"];
  options.settings.slots = 2;
  OB_TRY(const auto server,
         serve::Server::start(
             std::make_unique<ClaimingEngine>(std::move(engine), arguments.contains("--lies")),
             options));
  OB_CHECK_OK(write_file_atomically(arguments["--ready-file"],
                                    server->addresses().front().to_string() + "\n"));
  int signal = 0;
  ::sigwait(&signals, &signal);
  return {};
}

}  // namespace
}  // namespace outboard

int main(int argc, char** argv) {
  std::map<std::string, std::string> arguments;
  for (int i = 2; i + 1 < argc; i += 2) arguments[argv[i]] = argv[i + 1];
  const auto served = outboard::serve_until_signal(std::move(arguments));
  if (!served) std::fprintf(stderr, "%s\n", served.error().message.c_str());
  return served ? 0 : 1;
}
