// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/placed_session.h"

#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

#include "engine/element_type.h"

namespace outboard::serve {
namespace {

class Done final : public engine::RunOutputs {
 public:
  Done() {
    static constexpr std::byte kDone{1};
    values_.push_back(
        {.type = engine::ElementType::kUint8, .dims = {1}, .data = std::span(&kDone, 1)});
  }
};

class PlacedSession final : public engine::Session {
 public:
  PlacedSession(std::shared_ptr<engine::Session> session, std::vector<std::uint64_t> sizes,
                const HandedMemories& memories)
      : session_(std::move(session)), sizes_(std::move(sizes)), memories_(memories) {
    info_.inputs.push_back({.name = "places",
                            .kind = "tensor",
                            .type = engine::ElementType::kInt64,
                            .has_shape = true,
                            .dims = {static_cast<std::int64_t>(1 + sizes_.size())},
                            .dim_names = {""}});
    info_.outputs.push_back({.name = "done",
                             .kind = "tensor",
                             .type = engine::ElementType::kUint8,
                             .has_shape = true,
                             .dims = {1},
                             .dim_names = {""}});
  }
  const engine::ModelInfo& info() const override { return info_; }

  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> inputs,
                                                  std::span<const engine::OutputWanted> /*wanted*/,
                                                  engine::RunControl* control) override {
    std::vector<std::int64_t> numbers(1 + sizes_.size());
    if (inputs.size() != 1 || inputs[0].data.size() != numbers.size() * sizeof(std::int64_t))
      return error(ErrorKind::kInvalid, "the places of ({}) tensors were expected", sizes_.size());
    std::memcpy(numbers.data(), inputs[0].data.data(), inputs[0].data.size());
    const auto memory = memories_.find(static_cast<std::uint64_t>(numbers[0]));
    if (!memory)
      return error(ErrorKind::kNotFound, "the memory ({}) was not handed over", numbers[0]);
    std::vector<std::span<std::byte>> tensors;
    for (std::size_t i = 0; i < sizes_.size(); ++i) {
      const auto offset = static_cast<std::uint64_t>(numbers[i + 1]);
      if (offset > memory->size() || sizes_[i] > memory->size() - offset)
        return error(ErrorKind::kInvalid,
                     "a tensor ({} bytes at {}) must lie within its memory ({} bytes)", sizes_[i],
                     offset, memory->size());
      tensors.emplace_back(memory->data() + offset, sizes_[i]);
    }
    OB_CHECK_OK(run_on(tensors, control));
    return std::unique_ptr<engine::RunOutputs>(std::make_unique<Done>());
  }

 private:
  Result<void> run_on(std::span<const std::span<std::byte>> tensors, engine::RunControl* control) {
    const engine::ModelInfo& real = session_->info();
    std::vector<engine::InputView> inputs;
    std::vector<engine::OutputBuffer> buffers;
    std::vector<engine::OutputWanted> wanted;
    inputs.reserve(real.inputs.size());
    buffers.reserve(real.outputs.size());
    wanted.reserve(real.outputs.size());
    for (std::size_t i = 0; i < real.inputs.size(); ++i)
      inputs.push_back({real.inputs[i].type, real.inputs[i].dims, tensors[i], {}});
    for (std::size_t i = 0; i < real.outputs.size(); ++i)
      buffers.push_back(
          {real.outputs[i].type, real.outputs[i].dims, tensors[real.inputs.size() + i]});
    for (std::uint32_t i = 0; i < buffers.size(); ++i) wanted.push_back({i, &buffers[i]});
    OB_TRY(const auto outputs, session_->run(inputs, wanted, control));
    return {};
  }

  const std::shared_ptr<engine::Session> session_;
  const std::vector<std::uint64_t> sizes_;  // of the inputs, then the outputs
  const HandedMemories& memories_;
  engine::ModelInfo info_;
};

}  // namespace

Result<void> HandedMemories::add(std::uint64_t number, const wire::FileDescriptor& memory) {
  const off_t size = ::lseek(memory.get(), 0, SEEK_END);
  if (size <= 0) return error(ErrorKind::kInvalid, "the memory ({}) has no size", number);
  OB_TRY(auto mapping, wire::Mapping::map(memory.get(), static_cast<std::uint64_t>(size),
                                          /*writable=*/true));
  const std::lock_guard lock(mutex_);
  memories_[number] = std::make_shared<const wire::Mapping>(std::move(mapping));
  return {};
}

void HandedMemories::forget(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  memories_.erase(number);
}

std::shared_ptr<const wire::Mapping> HandedMemories::find(std::uint64_t number) const {
  const std::lock_guard lock(mutex_);
  const auto found = memories_.find(number);
  return found == memories_.end() ? nullptr : found->second;
}

Result<std::shared_ptr<engine::Session>> make_placed_session(
    std::shared_ptr<engine::Session> session, const HandedMemories& memories) {
  std::vector<std::uint64_t> sizes;
  for (const auto* values : {&session->info().inputs, &session->info().outputs})
    for (const engine::ValueInfo& value : *values) {
      const auto size = engine::size_bytes(value.type, value.dims);
      if (!value.has_shape || value.type == engine::ElementType::kString || !size)
        return error(ErrorKind::kInvalid, "the tensor ({}) has no fixed size", value.name);
      sizes.push_back(*size);
    }
  return std::shared_ptr<engine::Session>(
      std::make_shared<PlacedSession>(std::move(session), std::move(sizes), memories));
}

}  // namespace outboard::serve
