// SPDX-License-Identifier: Apache-2.0
// A peer that says what a fuzzer wrote, whatever it is told, and then goes.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>

#include "wire/transport/stream.h"

namespace outboard::wire {

class ScriptStream final : public Stream {
 public:
  explicit ScriptStream(std::string says) : says_(std::move(says)) {}
  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    std::size_t total = 0;
    for (const iovec& buffer : buffers) {
      const std::size_t n = std::min(buffer.iov_len, says_.size() - said_);
      if (n > 0) std::memcpy(buffer.iov_base, says_.data() + said_, n);
      said_ += n;
      total += n;
    }
    if (total > 0) return total;
    return error(ErrorKind::kDisconnected, "peer closed the connection");
  }
  Result<void> write_all(std::span<iovec>) override { return {}; }
  void set_stall_timeout(std::chrono::milliseconds) override {}
  void shut_down() override { said_ = says_.size(); }
  Result<std::size_t> peek(std::span<std::byte>) override { return std::size_t{0}; }
  int poll_fd() const override { return -1; }

 private:
  const std::string says_;
  std::atomic<std::size_t> said_{0};
};

}  // namespace outboard::wire
