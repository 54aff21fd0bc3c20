// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/handed_models.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "engine/forwarding.h"

namespace outboard::serve {
namespace {

class PinnedHanded final : public PinnedModel {
 public:
  PinnedHanded(std::string path, std::uint64_t size_bytes,
               std::shared_ptr<const HandedModels::Model> model)
      : PinnedModel(std::move(path), size_bytes), model_(std::move(model)) {}

 private:
  const std::shared_ptr<const HandedModels::Model> model_;
};

// Its one Run gives bytes.
class ShownSession final : public engine::Session {
 public:
  explicit ShownSession(std::string bytes)
      : bytes_(std::make_shared<const std::string>(std::move(bytes))) {
    info_.outputs.push_back({.name = "model",
                             .kind = "tensor",
                             .type = engine::ElementType::kUint8,
                             .has_shape = true,
                             .dims = {static_cast<std::int64_t>(bytes_->size())},
                             .dim_names = {""}});
  }
  const engine::ModelInfo& info() const override { return info_; }
  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> /*inputs*/,
                                                  std::span<const engine::OutputWanted> wanted,
                                                  engine::RunControl* /*control*/) override {
    auto outputs = std::make_unique<Outputs>(bytes_);
    for (const engine::OutputWanted& one : wanted) {
      const auto* const buffer = one.buffer;
      if (buffer != nullptr && buffer->data.size() != bytes_->size())
        return error(ErrorKind::kInvalid, "the memory ({} bytes) is not what the model takes ({})",
                     buffer->data.size(), bytes_->size());
      outputs->add(buffer == nullptr ? std::span<std::byte>() : buffer->data);
    }
    return std::unique_ptr<engine::RunOutputs>(std::move(outputs));
  }

 private:
  class Outputs final : public engine::RunOutputs {
   public:
    explicit Outputs(std::shared_ptr<const std::string> bytes) : bytes_(std::move(bytes)) {}
    // `memory`: the caller's; none: where the bytes are.
    void add(std::span<std::byte> memory) {
      std::span<const std::byte> data = std::as_bytes(std::span(*bytes_));
      if (!memory.empty()) {
        std::copy(data.begin(), data.end(), memory.begin());
        data = memory;
      }
      values_.push_back({.type = engine::ElementType::kUint8,
                         .dims = {static_cast<std::int64_t>(data.size())},
                         .data = data});
    }

   private:
    const std::shared_ptr<const std::string> bytes_;
  };

  const std::shared_ptr<const std::string> bytes_;
  engine::ModelInfo info_;
};

class HandedEngine final : public engine::ForwardingEngine {
 public:
  HandedEngine(std::unique_ptr<engine::Engine> real, HandedModels& models)
      : ForwardingEngine(std::move(real)), models_(models) {}

  Result<std::shared_ptr<engine::Session>> open(const std::string& path,
                                                const engine::OpenOptions& options) override {
    const auto model = models_.find(path);
    if (!model) return error(ErrorKind::kNotFound, "the model ({}) was not handed over", path);
    if (!model->placed.empty()) return open_placed(model->placed);
    engine::OpenOptions with_files = options;
    for (std::size_t i = 1; i < model->files.size(); ++i)
      with_files.external_files.push_back({model->files[i].name, model->files[i].bytes()});
    if (model->to_show) {
      OB_TRY(std::string optimised, optimise(model->files.front().bytes(), with_files));
      return std::shared_ptr<engine::Session>(std::make_shared<ShownSession>(std::move(optimised)));
    }
    OB_TRY(auto session, real().open_bytes(model->files.front().bytes(), with_files));
    auto handed = std::make_shared<engine::KeepingSession>(model, std::move(session));
    const std::lock_guard lock(mutex_);
    std::erase_if(open_, [](const auto& one) { return one.second.expired(); });
    open_[path] = handed;
    return std::shared_ptr<engine::Session>(std::move(handed));
  }

 private:
  Result<std::shared_ptr<engine::Session>> open_placed(const std::string& path) {
    std::shared_ptr<engine::Session> session;
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = open_.find(path); found != open_.end()) session = found->second.lock();
    }
    if (!session) return error(ErrorKind::kNotFound, "the model ({}) is not open", path);
    return make_placed_session(std::move(session), models_.memories());
  }

  HandedModels& models_;
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<engine::Session>> open_;  // by the model's path
};

}  // namespace

Result<void> HandedModels::add(const Sha256& model, const std::string& file_name,
                               const wire::FileDescriptor& file, bool to_show) {
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  if (size < 0) return error(ErrorKind::kInvalid, "the file ({}) has no size", file_name);
  File added{.name = file_name, .mapping = {}};
  if (size > 0) {
    OB_TRY(added.mapping, wire::Mapping::map(file.get(), static_cast<std::uint64_t>(size),
                                             /*writable=*/false));
  }
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Model>& entry = models_[model.hex()];
  if (file_name == "model") entry = std::make_shared<Model>();
  if (!entry) return error(ErrorKind::kInvalid, "the first file ({}) must be (model)", file_name);
  entry->to_show = to_show;
  entry->files.push_back(std::move(added));
  return {};
}

void HandedModels::forget(const Sha256& model) {
  const std::lock_guard lock(mutex_);
  models_.erase(model.hex());
}

void HandedModels::place(const Sha256& model, const std::string& other) {
  auto placed = std::make_shared<Model>();
  placed->placed = other;
  const std::lock_guard lock(mutex_);
  models_[model.hex()] = std::move(placed);
}

Result<std::unique_ptr<PinnedModel>> HandedModels::pin(const Sha256& model) {
  const std::string path = model.hex();
  auto found = find(path);
  if (!found) return error(ErrorKind::kNotFound, "the model ({}) was not handed over", path);
  std::uint64_t size_bytes = 0;
  for (const File& file : found->files) size_bytes += file.bytes().size();
  return std::unique_ptr<PinnedModel>(
      std::make_unique<PinnedHanded>(path, size_bytes, std::move(found)));
}

std::shared_ptr<const HandedModels::Model> HandedModels::find(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  const auto found = models_.find(path);
  return found == models_.end() ? nullptr : found->second;
}

std::unique_ptr<engine::Engine> make_handed_engine(std::unique_ptr<engine::Engine> real,
                                                   HandedModels& models) {
  return std::make_unique<HandedEngine>(std::move(real), models);
}

}  // namespace outboard::serve
