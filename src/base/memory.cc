// SPDX-License-Identifier: Apache-2.0
#include "base/memory.h"

#include <unistd.h>

#include <cstdio>
#include <string>

namespace outboard {

std::uint64_t resident_bytes(pid_t pid) {
  unsigned long long total_pages = 0, resident_pages = 0;
  const std::string process = pid == 0 ? "self" : std::to_string(pid);
  std::FILE* file = std::fopen(("/proc/" + process + "/statm").c_str(), "re");
  if (file == nullptr) return 0;
  const int read = std::fscanf(file, "%llu %llu", &total_pages, &resident_pages);
  std::fclose(file);
  return read == 2 ? resident_pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

}  // namespace outboard
