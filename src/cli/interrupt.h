// SPDX-License-Identifier: Apache-2.0
// While one lives, the first SIGINT or SIGTERM asks for an orderly end and the second ends the
// process as usual. At most one in a process at a time.
#pragma once

#include <signal.h>

#include <atomic>

namespace outboard::cli {

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  const std::atomic<bool>& requested() const;

 private:
  struct sigaction old_int_{};
  struct sigaction old_term_{};
};

}  // namespace outboard::cli
