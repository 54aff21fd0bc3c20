// SPDX-License-Identifier: Apache-2.0
// The host's side of a part: frames begin, are waited for, and are given up.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "split/exec/part.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

double in_us(Nanoseconds time) { return static_cast<double>(time.count()) / 1e3; }

}  // namespace

Result<std::uint64_t> Part::begin(std::span<const engine::InputView> inputs, Deadline deadline) {
  OB_CHECK(steps_.is_host);
  if (inputs.size() != steps_.model_inputs.size())
    return error(ErrorKind::kInvalid, "the number of inputs ({}) must be the model's ({})",
                 inputs.size(), steps_.model_inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Buffer& b = steps_.buffers[at(steps_.model_inputs[i])];
    if (inputs[i].data.size() != b.size_bytes)
      return error(ErrorKind::kInvalid, "the input ({}) has {} bytes, and the plan is for {}",
                   graph_->tensors[at(b.tensor)].name, inputs[i].data.size(), b.size_bytes);
  }
  std::unique_lock lock(mutex_);
  const std::int64_t frame = next_frame_;
  OB_TRY(Context * c, enter(frame, lock, deadline));
  ++next_frame_;
  moved();
  lock.unlock();
  const auto given = [&](int buffer) -> const std::byte* {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (steps_.model_inputs[i] == buffer) return inputs[i].data.data();
    return nullptr;
  };
  // What the neighbours wait for first.
  const auto fill = [&](bool sends) {
    for (const Copy& x : steps_.input_copies) {
      bool leaves = false;
      for (const Step& s : steps_.steps)
        leaves |= s.kind == StepKind::kSend &&
                  std::find(s.inputs.begin(), s.inputs.end(), x.to) != s.inputs.end();
      const Buffer &from = steps_.buffers[at(x.from)], &to = steps_.buffers[at(x.to)];
      if (leaves == sends) copy_rows(from, given(x.from), to, c->data(to), x.rows);
    }
    for (int b : steps_.model_inputs) {
      const Buffer& whole = steps_.buffers[at(b)];
      if (!sends) std::memcpy(c->data(whole), given(b), whole.size_bytes);
    }
  };
  const auto set_off = [&](bool sends) {
    const std::lock_guard again(mutex_);
    for (int i = 0; i < static_cast<int>(steps_.steps.size()); ++i) {
      const bool is_send = steps_.steps[at(i)].kind == StepKind::kSend;
      if (steps_.steps[at(i)].waits == 0 && is_send == sends) make_ready(*c, i);
    }
  };
  // A message may carry a whole input, which then is there only with the second filling.
  bool whole_leaves = false;
  for (const Step& s : steps_.steps)
    for (int b : steps_.model_inputs)
      whole_leaves |= s.kind == StepKind::kSend &&
                      std::find(s.inputs.begin(), s.inputs.end(), b) != s.inputs.end();
  fill(true);
  if (!whole_leaves) set_off(true);
  fill(false);
  if (whole_leaves) set_off(true);
  set_off(false);
  return static_cast<std::uint64_t>(frame);
}

// With the mutex held, as all of these.
void Part::Link::start_frame() {
  if (connection == nullptr) return;
  leaving_bytes = 0;
  delivered_bytes = connection->stream().delivered_bytes();
  pace.begin(connection->moved_bytes());
}

void Part::Link::look(Nanoseconds now) {
  if (connection == nullptr) return;
  // Some transports cannot see what the other end has.
  const std::uint64_t delivered = connection->stream().delivered_bytes();
  const bool leaves = delivered != 0 && delivered - delivered_bytes < leaving_bytes;
  pace.saw(in_us(now), connection->moved_bytes(), leaves || arriving);
}

Result<void> Part::await_end(const Context& c, Deadline deadline, const FramePatience& patience,
                             std::unique_lock<std::mutex>& lock) {
  const auto over = [&] { return failure_ || !c.active; };
  if (deadline.is_never() && patience.from.is_never()) {
    changed_.wait(lock, over);
    return {};
  }
  constexpr int kLooks = 24;
  const Nanoseconds interval = std::clamp<Nanoseconds>(
      std::min((deadline.at - Clock::monotonic().now()) / kLooks, patience.silence / 2),
      std::chrono::milliseconds(1), std::chrono::seconds(1));
  for (;;) {
    Nanoseconds now = Clock::monotonic().now();
    Nanoseconds until = deadline.at;
    if (!patience.from.is_never() && until - now > interval) until = now + interval;
    if (changed_.wait_until(lock, std::chrono::steady_clock::time_point(until), over)) return {};
    now = Clock::monotonic().now();
    if (now >= deadline.at)
      return error(ErrorKind::kTimeout, "the frame did not end within its time");
    double rows_us = 0;
    for (auto& link : links_) {
      link->look(now);
      if (computing_ || link->pace.has_moved()) moved();
      rows_us = std::max(rows_us, link->pace.left_us(link->frame_bytes));
    }
    if (now >= patience.from.at && idle_for() >= patience.silence)
      return error(ErrorKind::kTimeout, "nothing moved in the frame for {:.1f} ms",
                   in_us(idle_for()) / 1e3);
    if (rows_us > in_us(deadline.at - now))
      return error(ErrorKind::kTimeout, "rows of the frame would move for {:.1f} ms more",
                   rows_us / 1e3);
  }
}

Result<std::vector<std::span<const std::byte>>> Part::wait(std::uint64_t frame, Deadline deadline,
                                                           FramePatience patience) {
  std::unique_lock lock(mutex_);
  Context& c = context_of(static_cast<std::int64_t>(frame));
  OB_CHECK_OK(await_end(c, deadline, patience, lock));
  if (failure_) return tl::make_unexpected(*failure_);
  reports_[at(steps_.participant)] = c.times;
  reported_[at(steps_.participant)] = c.frame;
  std::vector<std::span<const std::byte>> outputs;
  for (int i : steps_.model_outputs) {
    const Buffer& b = steps_.buffers[at(i)];
    outputs.emplace_back(c.data(b), b.size_bytes);
  }
  return outputs;
}

Nanoseconds Part::idle_for() const { return Clock::monotonic().now() - Nanoseconds{moved_ns_}; }

std::uint64_t Part::frames() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::uint64_t>(next_frame_);
}

void Part::release(std::uint64_t frame) {
  const std::lock_guard lock(mutex_);
  context_of(static_cast<std::int64_t>(frame)).released = true;
  changed_.notify_all();
}

void Part::abandon(std::uint64_t frame) {
  const std::lock_guard lock(mutex_);
  Context& c = context_of(static_cast<std::int64_t>(frame));
  if (c.frame != static_cast<std::int64_t>(frame)) return;
  if (c.active)
    c.abandoned_at = Clock::monotonic().now();
  else
    c.released = true;
  changed_.notify_all();
}

Nanoseconds Part::abandoned_for() const {
  const std::lock_guard lock(mutex_);
  const Nanoseconds now = Clock::monotonic().now();
  Nanoseconds longest{0};
  for (const Context& c : contexts_)
    if (c.abandoned_at != Nanoseconds{})
      longest = std::max({longest, now - c.abandoned_at, Nanoseconds{1}});
  return longest;
}

std::vector<std::vector<StepTime>> Part::times(std::uint64_t frame, Deadline deadline) {
  std::unique_lock lock(mutex_);
  const auto there = [&] {
    if (failure_) return true;
    for (int i = 0; i < participants(); ++i)
      if (links_[at(i)]->connection != nullptr &&
          reported_[at(i)] < static_cast<std::int64_t>(frame))
        return false;
    return true;
  };
  if (deadline.is_never())
    changed_.wait(lock, there);
  else
    changed_.wait_until(lock, std::chrono::steady_clock::time_point(deadline.at), there);
  return reports_;
}

}  // namespace outboard::split::exec
