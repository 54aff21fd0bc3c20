// SPDX-License-Identifier: Apache-2.0
// The in-process pair: two bounded byte queues under a mutex each.
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "wire/transport/stream.h"

namespace outboard::wire {
namespace {

using std::chrono::milliseconds;

// One direction.
class Pipe {
 public:
  explicit Pipe(std::size_t capacity) : capacity_(capacity) {}

  Result<std::size_t> read(std::span<const iovec> buffers, milliseconds timeout) {
    std::unique_lock lock(mutex_);
    if (!wait(lock, timeout, [&] { return !bytes_.empty() || closed_; }))
      return error(ErrorKind::kTimeout, "peer sent nothing for {} ms", timeout.count());
    if (bytes_.empty()) return error(ErrorKind::kDisconnected, "peer closed the connection");
    std::size_t done = 0;
    for (const iovec& buffer : buffers) {
      const std::size_t n = std::min(buffer.iov_len, bytes_.size());
      std::copy_n(bytes_.begin(), n, static_cast<std::byte*>(buffer.iov_base));
      bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(n));
      done += n;
    }
    taken_ += done;
    changed_.notify_all();
    return done;
  }

  Result<void> write(std::span<const iovec> buffers, milliseconds timeout) {
    for (const iovec& buffer : buffers) {
      const auto* from = static_cast<const std::byte*>(buffer.iov_base);
      for (std::size_t left = buffer.iov_len; left > 0;) {
        std::unique_lock lock(mutex_);
        if (!wait(lock, timeout, [&] { return bytes_.size() < capacity_ || closed_; }))
          return error(ErrorKind::kTimeout, "peer took nothing for {} ms", timeout.count());
        if (closed_) return error(ErrorKind::kDisconnected, "peer closed the connection");
        const std::size_t n = std::min(left, capacity_ - bytes_.size());
        bytes_.insert(bytes_.end(), from, from + n);
        from += n;
        left -= n;
        changed_.notify_all();
      }
    }
    return {};
  }

  Result<std::size_t> peek(std::span<std::byte> buffer) {
    const std::lock_guard lock(mutex_);
    if (bytes_.empty() && closed_)
      return error(ErrorKind::kDisconnected, "peer closed the connection");
    const std::size_t n = std::min(buffer.size(), bytes_.size());
    std::copy_n(bytes_.begin(), n, buffer.begin());
    return n;
  }

  std::uint64_t taken_bytes() const {
    const std::lock_guard lock(mutex_);
    return taken_;
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  template <typename Condition>
  bool wait(std::unique_lock<std::mutex>& lock, milliseconds timeout, Condition condition) {
    if (timeout.count() > 0) return changed_.wait_for(lock, timeout, condition);
    changed_.wait(lock, condition);
    return true;
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::byte> bytes_;
  std::uint64_t taken_ = 0;  // by the reader, so far
  bool closed_ = false;
};

class PairStream final : public Stream {
 public:
  PairStream(std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out)
      : in_(std::move(in)), out_(std::move(out)) {}
  ~PairStream() override { PairStream::shut_down(); }

  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    return in_->read(buffers, timeout_);
  }
  Result<void> write_all(std::span<iovec> buffers) override {
    return out_->write(buffers, timeout_);
  }
  void set_stall_timeout(milliseconds timeout) override { timeout_ = timeout; }
  std::uint64_t delivered_bytes() const override { return out_->taken_bytes(); }
  void shut_down() override {
    in_->close();
    out_->close();
  }
  Result<std::size_t> peek(std::span<std::byte> buffer) override { return in_->peek(buffer); }
  int poll_fd() const override { return -1; }

 private:
  const std::shared_ptr<Pipe> in_, out_;
  milliseconds timeout_{0};
};

}  // namespace

std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> make_stream_pair(
    std::size_t capacity_bytes) {
  auto one = std::make_shared<Pipe>(capacity_bytes), two = std::make_shared<Pipe>(capacity_bytes);
  return {std::make_unique<PairStream>(one, two), std::make_unique<PairStream>(two, one)};
}

}  // namespace outboard::wire
