// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <utility>

namespace outboard::intercept {
namespace {

void write_all(const std::string& text) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

Progress::Progress(std::string what) : what_(std::move(what)) {}

Progress::~Progress() {
  if (shown_) write_all("\r\033[K");
}

void Progress::show(std::uint64_t done_bytes, std::uint64_t total_bytes) {
  const Nanoseconds now = Clock::monotonic().now();
  if (shown_ && now - shown_at_ < std::chrono::milliseconds(100)) return;
  if (!shown_ && ::isatty(STDERR_FILENO) != 1) return;
  shown_ = true;
  shown_at_ = now;
  const std::uint64_t percent = total_bytes == 0 ? 100 : 100 * done_bytes / total_bytes;
  write_all(fmt::format("\routboard: {}: {} % of {:.1f} MB\033[K", what_, percent,
                        static_cast<double>(total_bytes) / 1e6));
}

}  // namespace outboard::intercept
