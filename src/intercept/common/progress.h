// SPDX-License-Identifier: Apache-2.0
// A line of progress on standard error, only when that is a terminal, rewritten at most ten times a
// second. Not thread-safe. The line is wiped when the object goes.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace outboard::intercept {

class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(std::uint64_t done_bytes, std::uint64_t total_bytes);

 private:
  const std::string what_;
  Nanoseconds shown_at_{};
  bool shown_ = false;
};

}  // namespace outboard::intercept
