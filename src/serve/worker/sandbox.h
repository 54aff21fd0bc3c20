// SPDX-License-Identifier: Apache-2.0
// What a worker gives up before it sees a model. In this order, because Landlock binds a thread and
// those that it starts from then on, and because what the engine loads it must load in between:
//
//   give_up_privileges(limits);            // no new privileges, no core dumps, killed before
//   others restrict_files(reads, writes);         // Landlock: before any thread is started
//   ...load the engine, start threads...
//   limit_memory(bytes);
//   restrict_calls(SystemCalls::kNarrow);  // seccomp: all threads of the process
//
// After the last step a narrow worker cannot name a file at all: no open, stat, exec, socket, fork,
// ptrace or kill of another process. It has the descriptors that it was handed, memory, threads and
// clocks. A wide one (a GPU's) may open files, of which Landlock leaves those in its lists.
// Each returns an Error with the system's reason; kUnimplemented: this kernel does not have it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace outboard::serve {

// `nice`: what its threads' priority is lowered by, 0 to 19. Ends with the thread that started it.
Result<void> give_up_privileges(int nice);

// Folders and files: to read and execute, and to read, write and control (devices). Those that are
// not there are passed over. Denied are all others, TCP, and signals and abstract sockets of
// processes outside, as far as the kernel's Landlock goes; the number of its version is returned.
Result<int> restrict_files(const std::vector<std::string>& readable,
                           const std::vector<std::string>& writable);

// Of private memory that can be written to: what allocations take. 0: no limit.
Result<void> limit_memory(std::uint64_t size_bytes);

enum class SystemCalls { kNarrow, kWide };
Result<void> restrict_calls(SystemCalls which);

// What an engine reads while it is loaded: the system's libraries, and those beside `library` and
// in LD_LIBRARY_PATH.
std::vector<std::string> files_to_load(const std::string& library);
// What CUDA opens: its devices, and what it reads about them.
std::vector<std::string> gpu_files_to_read();
std::vector<std::string> gpu_devices();

}  // namespace outboard::serve
