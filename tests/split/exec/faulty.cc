// SPDX-License-Identifier: Apache-2.0
#include "tests/split/exec/faulty.h"

#include <atomic>

namespace outboard::split::testing {

class Faults::Faulty final : public wire::Stream {
 public:
  Faulty(std::unique_ptr<wire::Stream> stream, std::shared_ptr<Faults> faults)
      : stream_(std::move(stream)), faults_(std::move(faults)) {}
  ~Faulty() override {
    const std::lock_guard lock(faults_->mutex_);
    faults_->streams_.erase(this);
  }
  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    for (;;) {
      auto got = stream_->read_some(buffers);
      bool lost = false;
      faults_->after_read(*this, lost);
      if (!lost || !got) return got;
    }
  }
  Result<void> write_all(std::span<iovec> buffers) override {
    if (!faults_->before_write(*this)) return {};
    for (iovec& buffer : buffers)
      for (; buffer.iov_len > 0 && faults_->trickles(*this); --buffer.iov_len) {
        iovec byte{buffer.iov_base, 1};
        OB_CHECK_OK(stream_->write_all(std::span(&byte, 1)));
        buffer.iov_base = static_cast<char*>(buffer.iov_base) + 1;
      }
    return stream_->write_all(buffers);
  }
  void set_stall_timeout(std::chrono::milliseconds timeout) override {
    stream_->set_stall_timeout(timeout);
  }
  void shut_down() override {
    is_shut = true;
    stream_->shut_down();
    const std::lock_guard lock(faults_->mutex_);
    faults_->changed_.notify_all();
  }
  void shut_inner() {  // with the mutex held
    is_shut = true;
    stream_->shut_down();
  }
  Result<std::size_t> peek(std::span<std::byte> buffer) override { return stream_->peek(buffer); }
  int poll_fd() const override { return stream_->poll_fd(); }

  std::atomic<bool> is_shut{false};

 private:
  const std::unique_ptr<wire::Stream> stream_;
  const std::shared_ptr<Faults> faults_;
};

void Faults::arm(Fault fault, int message) {
  const std::lock_guard lock(mutex_);
  fault_ = fault;
  left_ = message;
}

void Faults::heal() {
  const std::lock_guard lock(mutex_);
  active_ = false;
  left_ = 0;
  changed_.notify_all();
}

int Faults::writes() const {
  const std::lock_guard lock(mutex_);
  return writes_;
}

std::unique_ptr<wire::Stream> Faults::wrap(std::unique_ptr<wire::Stream> stream) {
  auto wrapped = std::make_unique<Faulty>(std::move(stream), shared_from_this());
  const std::lock_guard lock(mutex_);
  streams_.insert(wrapped.get());
  if (active_ && fault_ == Fault::kKilled) wrapped->shut_inner();
  return wrapped;
}

bool Faults::before_write(Faulty& stream) {
  std::unique_lock lock(mutex_);
  ++writes_;
  if (!active_ && left_ > 0 && --left_ == 0) {
    if (fault_ == Fault::kLinkEnds) {
      stream.shut_inner();
      return true;  // into a stream that has ended, which is an error
    }
    active_ = true;
    if (fault_ == Fault::kKilled)
      for (Faulty* s : streams_) s->shut_inner();
  }
  if (!active_) return true;
  if (fault_ == Fault::kStopped)
    changed_.wait(lock, [&] { return !active_ || fault_ != Fault::kStopped || stream.is_shut; });
  return fault_ != Fault::kCut || !active_;
}

bool Faults::trickles(const Faulty& stream) {
  std::unique_lock lock(mutex_);
  const auto over = [&] { return !active_ || fault_ != Fault::kTrickles || stream.is_shut; };
  return !changed_.wait_for(lock, std::chrono::milliseconds(over() ? 0 : 1), over);
}

void Faults::after_read(const Faulty& stream, bool& lost) {
  std::unique_lock lock(mutex_);
  lost = active_ && fault_ == Fault::kCut && !stream.is_shut;
  if (active_ && fault_ == Fault::kStopped)
    changed_.wait(lock, [&] { return !active_ || fault_ != Fault::kStopped || stream.is_shut; });
}

}  // namespace outboard::split::testing
