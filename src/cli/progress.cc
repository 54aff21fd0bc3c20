// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace outboard::cli {

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() { wipe(); }

void ProgressLine::show(std::string_view line) {
  if (!terminal_) return;
  const Nanoseconds now = Clock::monotonic().now();
  if (now < next_) return;
  next_ = now + std::chrono::milliseconds(100);
  shown_ = true;
  fmt::print(stderr, "\r\033[K{}", line);
  std::fflush(stderr);
}

void ProgressLine::wipe() {
  if (!shown_) return;
  shown_ = false;
  next_ = Nanoseconds{0};
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

void ProgressLine::show_bytes(std::string_view name, std::uint64_t done_bytes,
                              std::uint64_t total_bytes) {
  constexpr std::size_t kWidth = 30;
  const double share =
      total_bytes == 0 ? 1.0 : static_cast<double>(done_bytes) / static_cast<double>(total_bytes);
  const auto filled = std::min(kWidth, static_cast<std::size_t>(share * kWidth));
  show(fmt::format("{} [{:#<{}}{:.<{}}] {:3.0f} % {:.1f} of {:.1f} MB", name, "", filled, "",
                   kWidth - filled, share * 100, static_cast<double>(done_bytes) / 1e6,
                   static_cast<double>(total_bytes) / 1e6));
}

}  // namespace outboard::cli
