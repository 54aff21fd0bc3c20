// SPDX-License-Identifier: Apache-2.0
// Memory that the server and one tenant's worker both read and write, on the server's side: what
// engine::MemorySource gives. The worker maps it when it is first used there (handover.h), and so
// does the next one where a worker has ended.
//
// Only data lies in it, whose writer may change it at any time: where it lies, and how much it is,
// goes by the wire, and each side checks that against its own mapping. It can neither shrink nor
// grow (seals), so that a read of it cannot fail. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "wire/transport/file_descriptor.h"
#include "wire/transport/shared_memory.h"

namespace outboard::serve {

struct WorkerMemory {
  std::uint64_t number = 0;  // of all of this process
  wire::FileDescriptor descriptor;
  wire::Mapping mapping;
  // kOverloaded: no memory, no descriptor left.
  static Result<std::shared_ptr<WorkerMemory>> make(std::uint64_t size_bytes);
};

// Where a Run's tensors lie: the memory's number, then the offset of each input and output.
struct Places {
  std::shared_ptr<WorkerMemory> memory;
  std::vector<std::int64_t> numbers;
};

// A tenant's.
class WorkerMemories {
 public:
  void add(const std::shared_ptr<WorkerMemory>& memory);
  void remove(const WorkerMemory& memory);
  // nullopt where not all of them lie in one memory, or the session does not say beforehand how
  // large they are.
  std::optional<Places> places_of(const engine::ModelInfo& info,
                                  std::span<const engine::InputView> inputs,
                                  std::span<const engine::OutputWanted> outputs) const;

 private:
  std::shared_ptr<WorkerMemory> that_has(const std::byte* data) const;

  mutable std::mutex mutex_;
  std::map<const std::byte*, std::weak_ptr<WorkerMemory>> by_start_;
};

}  // namespace outboard::serve
