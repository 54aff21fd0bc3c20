// SPDX-License-Identifier: Apache-2.0
// One line on standard error that is written over and over, for work that takes a while. Says
// nothing when standard error is no terminal. One thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace outboard::cli {

class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();  // wipes the line
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // At most ten times a second; others are dropped.
  void show(std::string_view line);
  void wipe();
  // "NAME [#####.....] 52 % 12.3 of 23.6 MB"
  void show_bytes(std::string_view name, std::uint64_t done_bytes, std::uint64_t total_bytes);

 private:
  const bool terminal_;
  bool shown_ = false;
  Nanoseconds next_{0};
};

}  // namespace outboard::cli
