// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/worker_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <iterator>
#include <system_error>

#include "engine/element_type.h"

namespace outboard::serve {

Result<std::shared_ptr<WorkerMemory>> WorkerMemory::make(std::uint64_t size_bytes) {
  static std::atomic<std::uint64_t> next{1};
  wire::FileDescriptor descriptor(
      ::memfd_create("outboard-frames", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!descriptor || ::ftruncate(descriptor.get(), static_cast<off_t>(size_bytes)) != 0 ||
      ::fcntl(descriptor.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return error(ErrorKind::kOverloaded, "no memory to share with a worker ({} bytes): {}",
                 size_bytes, std::generic_category().message(errno));
  OB_TRY(auto mapping, wire::Mapping::map(descriptor.get(), size_bytes, /*writable=*/true));
  return std::make_shared<WorkerMemory>(
      WorkerMemory{next.fetch_add(1), std::move(descriptor), std::move(mapping)});
}

void WorkerMemories::add(const std::shared_ptr<WorkerMemory>& memory) {
  const std::lock_guard lock(mutex_);
  by_start_[memory->mapping.data()] = memory;
}

void WorkerMemories::remove(const WorkerMemory& memory) {
  const std::lock_guard lock(mutex_);
  by_start_.erase(memory.mapping.data());
}

std::shared_ptr<WorkerMemory> WorkerMemories::that_has(const std::byte* data) const {
  const std::lock_guard lock(mutex_);
  auto after = by_start_.upper_bound(data);
  if (after == by_start_.begin()) return nullptr;
  return std::prev(after)->second.lock();
}

std::optional<Places> WorkerMemories::places_of(
    const engine::ModelInfo& info, std::span<const engine::InputView> inputs,
    std::span<const engine::OutputWanted> outputs) const {
  if (inputs.size() != info.inputs.size() || outputs.size() != info.outputs.size() ||
      outputs.empty() || outputs[0].buffer == nullptr)
    return std::nullopt;
  Places places;
  places.memory = that_has(outputs[0].buffer->data.data());
  if (!places.memory) return std::nullopt;
  places.numbers.push_back(static_cast<std::int64_t>(places.memory->number));
  const auto address = [](const std::byte* data) { return reinterpret_cast<std::uintptr_t>(data); };
  const auto start = address(places.memory->mapping.data());
  const std::size_t size = places.memory->mapping.size();
  const auto add = [&](const engine::ValueInfo& value, engine::ElementType type,
                       std::span<const std::int64_t> dims, std::span<const std::byte> data) {
    const auto offset = address(data.data()) - start;  // of what lies before it: beyond any size
    if (type == engine::ElementType::kString || type != value.type || !value.has_shape ||
        !std::equal(dims.begin(), dims.end(), value.dims.begin(), value.dims.end()) ||
        engine::size_bytes(type, dims) != data.size() || offset > size ||
        data.size() > size - offset)
      return false;
    places.numbers.push_back(static_cast<std::int64_t>(offset));
    return true;
  };
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!add(info.inputs[i], inputs[i].type, inputs[i].dims, inputs[i].data)) return std::nullopt;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const auto* const buffer = outputs[i].buffer;
    if (buffer == nullptr || outputs[i].index != i ||
        !add(info.outputs[i], buffer->type, buffer->dims, buffer->data))
      return std::nullopt;
  }
  return places;
}

}  // namespace outboard::serve
