// SPDX-License-Identifier: Apache-2.0
#include "engine/onnxruntime/engine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <mutex>
#include <string_view>
#include <utility>

#include "engine/memory_source.h"
#include "engine/onnxruntime/library.h"
#include "engine/onnxruntime/pinned_memory.h"
#include "engine/onnxruntime/session.h"
#include "engine/onnxruntime/session_options.h"
#include "engine/optimiser.h"

namespace outboard::engine {
namespace {

// An .ort file is told by its FlatBuffers identifier; a file's name may be anything.
bool is_ort_format(std::string_view head) {
  return head.size() >= 8 && head.substr(4, 4) == "ORTM";
}

OpenOptions with_format(OpenOptions options, std::string_view head) {
  if (is_ort_format(head)) options.config_entries["session.load_model_format"] = "ORT";
  return options;
}

// TensorRT's provider may be in the library while TensorRT itself is not on the machine: tried, not
// asked.
std::vector<std::string> usable_providers(const Library& library, const Device& device) {
  std::vector<std::string> providers;
  if (device.cuda) {
    OpenOptions options;
    options.providers.push_back({std::string(kTensorRtProvider), {}});
    if (make_session_options(library, device, options)) providers.emplace_back(kTensorRtProvider);
    providers.emplace_back(kCudaProvider);
  }
  providers.emplace_back(kCpuProvider);
  return providers;
}

// A file without a name, which is opened again by its path; in a sandbox that is a copy of its
// descriptor (src/serve/worker/reopening.h), with one place in the file for both.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("outboard-model", MFD_CLOEXEC)) {}
  ~MemoryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }
  Result<std::string> read() const {
    const off_t size = ::lseek(descriptor_, 0, SEEK_END);
    std::string bytes(size > 0 ? static_cast<std::size_t>(size) : 0, '\0');
    std::size_t got = 0;
    if (size > 0) ::lseek(descriptor_, 0, SEEK_SET);
    while (got < bytes.size()) {
      const ssize_t n = ::read(descriptor_, bytes.data() + got, bytes.size() - got);
      if (n <= 0) break;
      got += static_cast<std::size_t>(n);
    }
    if (bytes.empty() || got != bytes.size())
      return error(ErrorKind::kUnimplemented, "ONNX Runtime did not write its form of the model");
    return bytes;
  }

 private:
  const int descriptor_;
};

class OnnxRuntimeEngine final : public Engine, public ModelOptimiser, public MemorySource {
 public:
  OnnxRuntimeEngine(std::shared_ptr<const Library> library, Device device, std::string device_name)
      : library_(std::move(library)),
        device_(device),
        device_name_(std::move(device_name)),
        providers_(usable_providers(*library_, device_)) {}

  std::string name() const override { return "onnxruntime"; }
  std::string version() const override { return library_->version(); }
  std::string device() const override { return device_name_; }
  std::vector<std::string> available_providers() const override { return providers_; }

  Result<std::shared_ptr<Session>> open(const std::string& path,
                                        const OpenOptions& options) override {
    std::array<char, 8> head{};
    std::ifstream file(path, std::ios::binary);
    if (!file) return error(ErrorKind::kNotFound, "the model ({}) cannot be read", path);
    file.read(head.data(), head.size());
    const std::string_view seen(head.data(), static_cast<std::size_t>(file.gcount()));
    OB_TRY(const auto settings,
           make_session_options(*library_, device_, with_format(options, seen)));
    Owned<OrtSession> session(library_->api().ReleaseSession);
    OB_CHECK_OK(library_->check(library_->api().CreateSession(library_->env(), path.c_str(),
                                                              settings.get(), session.out())));
    return OnnxRuntimeSession::make(library_, std::move(session));
  }

  Result<std::shared_ptr<Session>> open_bytes(std::span<const std::byte> model,
                                              const OpenOptions& options) override {
    const std::string_view head(reinterpret_cast<const char*>(model.data()),
                                std::min<std::size_t>(model.size(), 8));
    OB_TRY(const auto settings,
           make_session_options(*library_, device_, with_format(options, head)));
    std::vector<Owned<OrtValue>> shared;
    if (takes_shared_tensors()) {
      OB_TRY(shared, add_shared_tensors(*library_, settings.get(), options.shared_tensors));
    }
    Owned<OrtSession> session(library_->api().ReleaseSession);
    OB_CHECK_OK(library_->check(library_->api().CreateSessionFromArray(
        library_->env(), model.data(), model.size(), settings.get(), session.out())));
    return OnnxRuntimeSession::make(library_, std::move(session), std::move(shared));
  }
  bool takes_shared_tensors() const override { return !device_.cuda; }

  std::unique_ptr<RunControl> make_run_control() override {
    return std::make_unique<OnnxRuntimeRunControl>(library_);
  }

  Result<std::shared_ptr<std::byte>> take_memory(std::uint64_t size_bytes) override {
    if (!device_.cuda)
      return error(ErrorKind::kUnimplemented, "the engine computes here, where any memory will do");
    const std::lock_guard lock(pinned_mutex_);
    if (!pinned_) {
      OB_TRY(pinned_, PinnedMemory::make(library_, device_));
    }
    return pinned_->take(size_bytes);
  }

  // The library writes it to a file only: one in memory.
  Result<std::string> optimise(std::span<const std::byte> model,
                               const OpenOptions& options) override {
    const MemoryFile file;
    OB_TRY(const auto settings, make_session_options(*library_, device_, options));
    OB_CHECK_OK(library_->check(
        library_->api().SetOptimizedModelFilePath(settings.get(), file.path().c_str())));
    // That the result is for machines of this kind is no news worth a warning.
    OB_CHECK_OK(library_->check(
        library_->api().SetSessionLogSeverityLevel(settings.get(), ORT_LOGGING_LEVEL_ERROR)));
    Owned<OrtSession> session(library_->api().ReleaseSession);
    OB_CHECK_OK(library_->check(library_->api().CreateSessionFromArray(
        library_->env(), model.data(), model.size(), settings.get(), session.out())));
    return file.read();
  }

 private:
  std::shared_ptr<const Library> library_;
  const Device device_;
  const std::string device_name_;
  const std::vector<std::string> providers_;
  std::mutex pinned_mutex_;
  std::shared_ptr<PinnedMemory> pinned_;
};

}  // namespace

Result<std::unique_ptr<Engine>> load_onnxruntime(const OnnxRuntimeOptions& options) {
  OB_TRY(const Device device, parse_device(options.device));
  OB_TRY(auto library, Library::load(options));
  // A device that cannot be used is said now, not when the first client comes.
  if (auto usable = make_session_options(*library, device, {}); !usable)
    return tl::make_unexpected(
        std::move(usable.error())
            .while_doing(fmt::format("preparing the device ({}) with ONNX Runtime {} ({})",
                                     options.device, library->version(), library->path())));
  return std::unique_ptr<Engine>(
      std::make_unique<OnnxRuntimeEngine>(std::move(library), device, options.device));
}

}  // namespace outboard::engine
