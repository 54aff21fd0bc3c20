// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/sim/network.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

namespace outboard::sim {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using Effect = Strike::Effect;

struct Network::Shared {
  Group server = 0;
  std::function<void(std::unique_ptr<wire::Stream>)> accept;
  Random random{0};
  std::mutex mutex;
  std::condition_variable changed;
  Trouble trouble = Trouble::kNone;
  std::size_t bytes_per_s = 0;
  std::optional<Strike> strike;
  bool struck = false;
  std::array<std::uint64_t, 3> calls{};
  std::uint64_t connects = 0;
  std::set<FaultyStream*> streams;
  std::vector<std::shared_ptr<wire::Stream>> limbo;  // closed by the client, unknown to the server

  // Counts a call, and says what happens at it.
  Effect count(Call call) {
    const std::lock_guard lock(mutex);
    const std::uint64_t number = calls[static_cast<std::size_t>(call)]++;
    if (!strike || struck || strike->call != call || number < strike->at) return Effect::kNothing;
    struck = true;
    changed.notify_all();
    return strike->effect;
  }
};

namespace {

// What passes at once, and the time until more does.
struct Pace {
  std::size_t bytes;
  milliseconds pause;
};
constexpr Pace kTrickle{16, milliseconds(100)};
constexpr std::size_t kPacesPerSecond = 50;

tl::unexpected<Error> closed() {
  return error(ErrorKind::kDisconnected, "peer closed the connection");
}

}  // namespace

// A client's end. Everything that the client sends and receives passes here.
class FaultyStream final : public wire::Stream {
 public:
  FaultyStream(std::shared_ptr<Network::Shared> shared, std::shared_ptr<wire::Stream> inner)
      : shared_(std::move(shared)), inner_(std::move(inner)) {
    const std::lock_guard lock(shared_->mutex);
    shared_->streams.insert(this);
  }
  ~FaultyStream() override {
    FaultyStream::shut_down();
    const std::lock_guard lock(shared_->mutex);
    shared_->streams.erase(this);
  }

  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    const Effect effect = shared_->count(Call::kReceive);
    if (effect == Effect::kClose) break_off();
    const nanoseconds end = limit();
    OB_CHECK_OK(wait_for_link(end));
    iovec first = buffers.front();
    if (effect == Effect::kPartial) first.iov_len = std::min<std::size_t>(first.iov_len, 7);
    if (const auto limited = pace()) {
      first.iov_len = std::min(first.iov_len, limited->bytes);
      block(this, now() + limited->pause);
    }
    const bool whole = first.iov_len == buffers.front().iov_len;
    auto got = inner_->read_some(whole ? buffers : std::span<const iovec>(&first, 1));
    OB_CHECK_OK(wait_for_link(end));
    if (effect == Effect::kPartial) break_off();
    return got;
  }

  Result<void> write_all(std::span<iovec> buffers) override {
    const Effect effect = shared_->count(Call::kSend);
    if (effect == Effect::kClose) break_off();
    OB_CHECK_OK(wait_for_link(limit()));
    if (effect == Effect::kPartial) {
      iovec half = buffers.front();
      half.iov_len = (half.iov_len + 1) / 2;
      const auto sent = inner_->write_all(std::span(&half, 1));
      break_off();
      return sent ? Result<void>(closed()) : sent;
    }
    if (!pace()) return inner_->write_all(buffers);
    for (const iovec& buffer : buffers) {
      for (std::size_t at = 0; at < buffer.iov_len;) {
        std::size_t bytes = buffer.iov_len - at;
        if (const auto limited = pace()) {
          bytes = std::min(bytes, limited->bytes);
          block(this, now() + limited->pause);
        }
        OB_CHECK_OK(wait_for_link(limit()));
        iovec piece{static_cast<std::byte*>(buffer.iov_base) + at, bytes};
        OB_CHECK_OK(inner_->write_all(std::span(&piece, 1)));
        at += bytes;
      }
    }
    return {};
  }

  void set_stall_timeout(milliseconds timeout) override {
    timeout_ = timeout;
    inner_->set_stall_timeout(timeout);
  }

  void shut_down() override {
    const std::lock_guard lock(shared_->mutex);
    ended_ = true;
    shared_->changed.notify_all();
    if (!passes()) {
      if (!in_limbo_) shared_->limbo.push_back(inner_);
      in_limbo_ = true;
      // Whoever waits inside the pair is woken by what nobody reads any more: its own time limit.
      return;
    }
    inner_->shut_down();
  }

  Result<std::size_t> peek(std::span<std::byte> buffer) override {
    {
      const std::lock_guard lock(shared_->mutex);
      if (ended_) return closed();
      if (!passes()) return std::size_t{0};
    }
    return inner_->peek(buffer);
  }
  int poll_fd() const override { return -1; }
  std::uint64_t delivered_bytes() const override { return inner_->delivered_bytes(); }

  // Under the shared mutex.
  bool lost = false;
  void close_server_end() { inner_->shut_down(); }

 private:
  bool passes() const { return !lost && shared_->trouble != Trouble::kSilent; }
  std::optional<Pace> pace() const {
    const std::lock_guard lock(shared_->mutex);
    if (shared_->trouble == Trouble::kTrickle) return kTrickle;
    if (shared_->bytes_per_s == 0) return std::nullopt;
    return Pace{std::max<std::size_t>(1, shared_->bytes_per_s / kPacesPerSecond),
                milliseconds(1000 / kPacesPerSecond)};
  }
  nanoseconds limit() const {
    return timeout_.count() == 0 ? nanoseconds::max() : now() + timeout_;
  }
  void break_off() { inner_->shut_down(); }

  Result<void> wait_for_link(nanoseconds end) {
    std::unique_lock lock(shared_->mutex);
    while (!passes() && !ended_) {
      if (end == nanoseconds::max()) {
        shared_->changed.wait(lock);
      } else if (shared_->changed.wait_until(lock, std::chrono::steady_clock::time_point(end)) ==
                 std::cv_status::timeout) {
        return error(ErrorKind::kTimeout, "peer made no progress within the time limit");
      }
    }
    if (ended_) return closed();
    return {};
  }

  const std::shared_ptr<Network::Shared> shared_;
  const std::shared_ptr<wire::Stream> inner_;
  milliseconds timeout_{0};
  bool ended_ = false, in_limbo_ = false;
};

Network::Network(Group server, std::function<void(std::unique_ptr<wire::Stream>)> accept,
                 std::uint64_t seed)
    : shared_(std::make_shared<Shared>()) {
  shared_->server = server;
  shared_->accept = std::move(accept);
  shared_->random = Random(seed);
}

Network::~Network() { expire_silent(); }

Result<std::unique_ptr<wire::Stream>> Network::connect(milliseconds timeout) {
  const Effect effect = shared_->count(Call::kConnect);
  {
    std::unique_lock lock(shared_->mutex);
    ++shared_->connects;
    const auto end = std::chrono::steady_clock::time_point(now() + timeout);
    while (shared_->trouble == Trouble::kSilent)
      if (shared_->changed.wait_until(lock, end) == std::cv_status::timeout)
        return error(ErrorKind::kTimeout, "server (simulated) did not answer in time");
    if (effect != Effect::kNothing || shared_->trouble == Trouble::kRefused)
      return error(ErrorKind::kDisconnected, "server (simulated) cannot be reached: refused");
  }
  auto [here, there] = wire::make_stream_pair();
  as_group(shared_->server, [&] { shared_->accept(std::move(there)); });
  return std::unique_ptr<wire::Stream>(
      std::make_unique<FaultyStream>(shared_, std::shared_ptr<wire::Stream>(std::move(here))));
}

void Network::set_strike(const Strike& strike) {
  const std::lock_guard lock(shared_->mutex);
  shared_->strike = strike;
  shared_->struck = false;
  shared_->calls = {};
}

bool Network::struck() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->struck;
}

void Network::set_trouble(Trouble trouble) {
  const std::lock_guard lock(shared_->mutex);
  shared_->trouble = trouble;
  if (trouble == Trouble::kRefused)
    for (FaultyStream* stream : shared_->streams) stream->close_server_end();
  shared_->changed.notify_all();
}

void Network::set_rate(std::size_t bytes_per_s) {
  const std::lock_guard lock(shared_->mutex);
  shared_->bytes_per_s = bytes_per_s;
}

void Network::forget_connections() {
  const std::lock_guard lock(shared_->mutex);
  for (FaultyStream* stream : shared_->streams) stream->lost = true;
  shared_->changed.notify_all();
}

void Network::close_server_ends() {
  const std::lock_guard lock(shared_->mutex);
  for (FaultyStream* stream : shared_->streams) stream->close_server_end();
}

void Network::expire_silent() {
  const std::lock_guard lock(shared_->mutex);
  for (const auto& stream : shared_->limbo) stream->shut_down();
  shared_->limbo.clear();
}

std::uint64_t Network::connects() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->connects;
}

std::size_t Network::open_streams() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->streams.size();
}

}  // namespace outboard::sim
