// SPDX-License-Identifier: Apache-2.0
// A session whose tensors stay where they are, on the worker's side: its one input says where in a
// memory that the server and the worker both have (worker_memory.h) the inputs of another session
// lie, and where its outputs shall; its one output is a byte that says that they are there.
// Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "base/result.h"
#include "engine/engine.h"
#include "wire/transport/file_descriptor.h"
#include "wire/transport/shared_memory.h"

namespace outboard::serve {

// Memories that were handed over, by number.
class HandedMemories {
 public:
  Result<void> add(std::uint64_t number, const wire::FileDescriptor& memory);
  void forget(std::uint64_t number);  // Runs that are under way keep it
  std::shared_ptr<const wire::Mapping> find(std::uint64_t number) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<const wire::Mapping>> memories_;
};

// Of a session all of whose inputs and outputs have fixed shapes; kInvalid else. Borrows the
// memories.
Result<std::shared_ptr<engine::Session>> make_placed_session(
    std::shared_ptr<engine::Session> session, const HandedMemories& memories);

}  // namespace outboard::serve
