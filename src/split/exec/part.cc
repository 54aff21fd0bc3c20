// SPDX-License-Identifier: Apache-2.0
// What part.h promises, but for the links (part_links.cc).
#include "split/exec/part.h"

#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/own_thread.h"
#include "engine/memory_source.h"
#include "split/exec/band_opener.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

std::int64_t now_ns() { return Clock::monotonic().now().count(); }

std::int64_t cpu_ns(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void sleep_until_ns(std::int64_t end_ns) {
  const timespec t{.tv_sec = end_ns / 1'000'000'000, .tv_nsec = end_ns % 1'000'000'000};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) == EINTR) {
  }
}

// Where the engine computes in another process, such that nothing is copied on the way there.
Result<std::shared_ptr<std::byte>> frame_memory(engine::Engine& engine, std::uint64_t size_bytes) {
  if (auto* const source = dynamic_cast<engine::MemorySource*>(&engine))
    if (auto memory = source->take_memory(size_bytes)) return memory;
  std::shared_ptr<std::byte> memory(static_cast<std::byte*>(std::aligned_alloc(64, size_bytes)),
                                    [](std::byte* bytes) { std::free(bytes); });
  if (memory) return memory;
  return error(ErrorKind::kOverloaded, "there is no memory for a frame's buffers ({} bytes)",
               size_bytes);
}

}  // namespace

Part::Part(std::shared_ptr<const Graph> graph, const PartOptions& options)
    : graph_(std::move(graph)), options_(options) {}

Result<std::shared_ptr<Part>> Part::build(engine::Engine& engine,
                                          std::shared_ptr<const Graph> graph,
                                          const Program& program, int host, int participant,
                                          const PartOptions& options) {
  const std::int64_t begin = now_ns();
  std::shared_ptr<Part> part(new Part(std::move(graph), options));
  part->control_ = engine.make_run_control();  // before anything can fail: a Part's end needs it
  part->host_ = host;
  part->layout_ = layout_of(*part->graph_, program, host);
  OB_TRY(part->steps_,
         compile(*part->graph_, program, part->layout_, host, participant, options.block_channels));
  OB_CHECK_OK(part->open_sessions(engine, program));
  part->contexts_.resize(at(std::max(1, options.contexts)));
  for (auto& c : part->contexts_) {
    const std::uint64_t size = std::max<std::uint64_t>(64, part->steps_.frame_bytes);
    OB_TRY(c.memory, frame_memory(engine, size));
    std::memset(c.memory.get(), 0, size);  // page faults now, not in the first frame
    c.waits.resize(part->steps_.steps.size());
    c.done.resize(part->steps_.steps.size());
    c.times.resize(part->steps_.steps.size());
  }
  const auto n = at(program.size());
  for (std::size_t i = 0; i < n; ++i) part->links_.push_back(std::make_unique<Link>());
  for (const Message& m : part->layout_.messages)
    if (m.from == participant || m.to == participant)
      part->links_[at(m.from == participant ? m.to : m.from)]->frame_bytes +=
          static_cast<std::uint64_t>(m.size_bytes);
  part->reports_.resize(n);
  part->reported_.assign(n, -1);
  part->build_ms_ = static_cast<double>(now_ns() - begin) / 1e6;
  return part;
}

Result<void> Part::open_sessions(engine::Engine& engine, const Program& program) {
  const BandOpener opener(engine, *graph_,
                          {.channels = options_.block_channels,
                           .threads = options_.threads,
                           .store = options_.bands,
                           .model = options_.model});
  for (const Step& step : steps_.steps) {
    auto& session = sessions_.emplace_back();
    if (step.kind != StepKind::kCompute) continue;
    // Threads that a session has for itself would be as nice for ever.
    if (options_.niceness && options_.threads <= 1) be_nice(options_.niceness());
    const Piece& p = layout_.pieces[at(step.index)];
    const Block& b = program.blocks[at(p.block)];
    auto opened = opener.open({b.first_unit, b.end_unit, p.wanted, layout_.slots});
    if (!opened)
      return tl::make_unexpected(std::move(opened).error().while_doing(fmt::format(
          "opening the rows of block ({}) of participant ({})", p.block, steps_.participant)));
    session = *std::move(opened);
    if (session->info().inputs.size() != step.inputs.size() ||
        session->info().outputs.size() != step.outputs.size())
      return error(ErrorKind::kInternal, "a band's model has {} inputs and {} outputs, not {}, {}",
                   session->info().inputs.size(), session->info().outputs.size(),
                   step.inputs.size(), step.outputs.size());
  }
  opener.tidy_up();
  return {};
}

std::uint64_t Part::memory_bytes() const {
  return steps_.frame_bytes * contexts_.size() +
         static_cast<std::uint64_t>(layout_.memory_bytes[at(steps_.participant)]);
}

void Part::start() {
  const std::lock_guard lock(mutex_);
  if (failure_ || std::exchange(started_, true)) return;
  if (const int nice = options_.first_frame_niceness; nice > 0) {
    first_computer_ = std::thread([this, nice] {
      be_nice(nice);
      compute(Frames::kFirst);
    });
    computer_ = std::thread([this] { compute(Frames::kLater); });
  } else {
    computer_ = std::thread([this] { compute(Frames::kAll); });
  }
  for (int i = 0; i < participants(); ++i)
    if (links_[at(i)]->connection != nullptr)
      links_[at(i)]->sender = std::thread([this, i] { send_all(i); });
}

Part::~Part() {
  fail({ErrorKind::kCancelled, "the plan has ended", 0});
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return serving_ == 0; });
  }
  for (auto* computer : {&first_computer_, &computer_})
    if (computer->joinable()) computer->join();
  for (auto& link : links_) {
    if (link->sender.joinable()) link->sender.join();
    if (link->receiver.joinable()) link->receiver.join();
  }
}

void Part::fail(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = error;
  for (auto& link : links_) {
    if (link->connection != nullptr) link->connection->stream().shut_down();
    link->changed.notify_all();
  }
  control_->terminate();
  changed_.notify_all();
  work_.notify_all();
}

std::optional<Error> Part::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

int Part::lost() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

// ---- frames; all with the mutex held

// The context of a frame, which begins with this if it has not. Waits while an earlier frame is in
// its place. Null: the frame is over.
Result<Part::Context*> Part::enter(std::int64_t frame, std::unique_lock<std::mutex>& lock,
                                   Deadline deadline) {
  Context& c = context_of(frame);
  const auto free = [&] { return failure_ || c.frame >= frame || (!c.active && c.released); };
  if (deadline.is_never())
    changed_.wait(lock, free);
  else if (!changed_.wait_until(lock, std::chrono::steady_clock::time_point(deadline.at), free))
    return error(ErrorKind::kTimeout, "an earlier frame has not ended");
  if (failure_) return tl::make_unexpected(*failure_);
  if (c.frame > frame || (c.frame == frame && !c.active)) return nullptr;
  if (c.frame < frame) activate(c, frame);
  return &c;
}

void Part::activate(Context& c, std::int64_t frame) {
  c.frame = frame;
  c.active = true;
  c.left = static_cast<int>(steps_.steps.size());
  c.released = !steps_.is_host;
  std::fill(c.done.begin(), c.done.end(), 0);
  for (std::size_t i = 0; i < steps_.steps.size(); ++i) {
    c.waits[i] = steps_.steps[i].waits;
    c.times[i] = {steps_.steps[i].task, steps_.steps[i].kind, 0, 0, 0};
  }
  if (steps_.is_host) {
    for (auto& link : links_) link->start_frame();
    return;  // begin() sets it off when the image is there
  }
  for (int i = 0; i < static_cast<int>(steps_.steps.size()); ++i)
    if (c.waits[at(i)] == 0) make_ready(c, i);
}

void Part::make_ready(Context& c, int step) {
  const Step& s = steps_.steps[at(step)];
  const Work work{(c.frame << 32) + s.key, step};
  if (s.kind == StepKind::kCompute) {
    ready_.insert(work);
    work_.notify_all();
  } else if (s.kind == StepKind::kSend) {
    links_[at(s.peer)]->queue.insert(work);
    links_[at(s.peer)]->changed.notify_one();
  }
}

void Part::finish(Context& c, int step) {
  if (c.done[at(step)]) return;
  c.done[at(step)] = 1;
  for (int next : steps_.steps[at(step)].next)
    if (--c.waits[at(next)] == 0) make_ready(c, next);
  if (--c.left > 0) return;
  c.active = false;
  c.released |= std::exchange(c.abandoned_at, Nanoseconds{}) != Nanoseconds{};
  if (!steps_.is_host) send_report(c);
  changed_.notify_all();
}

void Part::copy(Context& c, const std::vector<Copy>& copies) {
  for (const Copy& x : copies) {
    const Buffer &from = steps_.buffers[at(x.from)], &to = steps_.buffers[at(x.to)];
    copy_rows(from, c.data(from), to, c.data(to), x.rows);
  }
}

// ---- the computing thread

Result<void> Part::run_step(Context& c, int step) {
  const Step& s = steps_.steps[at(step)];
  constexpr std::size_t kMany = 64;
  std::vector<engine::InputView> inputs;
  std::vector<engine::OutputBuffer> buffers;
  std::vector<engine::OutputWanted> wanted;
  inputs.reserve(kMany);
  buffers.reserve(s.outputs.size());
  wanted.reserve(s.outputs.size());
  const auto type_of = [&](const Buffer& b) {
    return static_cast<engine::ElementType>(graph_->tensors[at(b.tensor)].element_type);
  };
  for (int i : s.inputs) {
    const Buffer& b = steps_.buffers[at(i)];
    inputs.push_back({type_of(b), b.shape, {c.data(b), b.size_bytes}, {}});
  }
  for (int i : s.outputs) {
    const Buffer& b = steps_.buffers[at(i)];
    buffers.push_back({type_of(b), b.shape, {c.data(b), b.size_bytes}});
  }
  for (std::uint32_t i = 0; i < buffers.size(); ++i) wanted.push_back({i, &buffers[i]});
  StepTime& time = c.times[at(step)];
  time.start_ns = now_ns();
  const clockid_t clock =
      options_.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID;
  const std::int64_t cpu_start = options_.pace > 0 ? cpu_ns(clock) : 0;
  OB_TRY(const auto outputs, sessions_[at(step)]->run(inputs, wanted, control_.get()));
  const std::int64_t ran = now_ns();
  copy(c, s.copies);
  time.copy_ns = now_ns() - ran;
  if (options_.pace > 0) {
    // An engine in another process says itself what it took.
    const auto busy_ns =
        static_cast<double>(cpu_ns(clock) - cpu_start) + static_cast<double>(outputs->engine_ns());
    sleep_until_ns(time.start_ns + static_cast<std::int64_t>(busy_ns / options_.pace));
  }
  time.end_ns = now_ns();
  return {};
}

void Part::compute(Frames frames) {
  const auto mine = [&](std::int64_t frame) {
    return frames == Frames::kAll || (frames == Frames::kFirst) == (frame == 0);
  };
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock,
               [&] { return failure_ || (!ready_.empty() && mine(ready_.begin()->first >> 32)); });
    if (failure_) return;
    const auto [key, step] = *ready_.begin();
    ready_.erase(ready_.begin());
    Context& c = context_of(key >> 32);
    computing_ = true;
    lock.unlock();
    auto ran = run_step(c, step);
    const bool computed = ran.has_value();
    if (!computed) fail(std::move(ran).error().while_doing("computing a band"));
    lock.lock();
    computing_ = false;
    moved();
    if (!computed) continue;
    finish(c, step);
    if (frames == Frames::kFirst && !c.active) return;
    const auto& next = steps_.steps[at(step)].next;
    if (std::none_of(next.begin(), next.end(),
                     [&](int n) { return steps_.steps[at(n)].kind == StepKind::kSend; }))
      continue;
    // Its rows leave before the next call begins: to a system that lets whoever computes use up its
    // slice, a woken sender on the same core is no reason to stop, and up to 5 ms late.
    lock.unlock();
    std::this_thread::yield();
    lock.lock();
  }
}

}  // namespace outboard::split::exec
