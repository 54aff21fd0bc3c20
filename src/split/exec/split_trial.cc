// SPDX-License-Identifier: Apache-2.0
// How a split session tries a plan without slowing its program: the first frame, whose result is
// compared, is computed aside, and the others are the program's own Runs. Where no Runs come,
// frames of its own.
#include <algorithm>

#include "base/median.h"
#include "base/own_thread.h"
#include "split/exec/measure.h"
#include "split/exec/split_session.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

Nanoseconds now() { return Clock::monotonic().now(); }

constexpr std::chrono::duration<double, std::micro> as_us(double us) {
  return std::chrono::duration<double, std::micro>(us);
}

// Adds what each task of a frame took; a message from its sender's start to its receiver's end.
void add_times(const std::vector<std::vector<StepTime>>& reports,
               std::vector<std::vector<double>>& tasks) {
  std::vector<std::int64_t> begin(tasks.size(), 0);
  for (const auto& report : reports)
    for (const StepTime& t : report)
      if (t.kind == StepKind::kSend) begin[at(t.task)] = t.start_ns;
  for (const auto& report : reports)
    for (const StepTime& t : report) {
      if (t.kind == StepKind::kCompute) begin[at(t.task)] = t.start_ns;
      if (t.kind != StepKind::kSend && begin[at(t.task)] != 0 && t.end_ns != 0)
        tasks[at(t.task)].push_back(static_cast<double>(t.end_ns - begin[at(t.task)]) / 1e3);
    }
}

}  // namespace

// Whether the program's Runs follow each other, so that a trial need not wait for one in vain. With
// the mutex held.
bool SplitSession::runs_come() const {
  const bool under_way =
      waiting_ > 0 || std::any_of(busy_.begin(), busy_.end(), [](int n) { return n > 0; });
  return last_run_ != Nanoseconds{} && (under_way || us_since(last_run_) < guard_.one_node_us());
}

// A frame that is a Run of the program's: whoever asks for it waits for a frame of the plan in
// place of one of the present one, and not for both. Not before as much may be lost as one of the
// plan's frames may lose.
Result<SplitSession::TrialFrame> SplitSession::lent_frame(const Offer& plan) {
  constexpr double kRoom = 0.5;
  std::unique_lock lock(mutex_);
  for (;;) {
    const Nanoseconds stuck = plan.crew->part().abandoned_for();
    if (stuck > kStuck) return error(ErrorKind::kTimeout, "a frame has not ended for long");
    if (stop_requested_ || (stuck == Nanoseconds{} && (!runs_come() || guard_.room() >= kRoom)))
      break;
    turn_.wait_for(lock, std::chrono::milliseconds(100));
  }
  if (!runs_come()) return error(ErrorKind::kNotFound, "no Run comes");
  lent_.reset();
  offered_ = plan;
  if (!turn_.wait_for(lock, as_us(2 * guard_.one_node_us()), [&] { return !offered_; })) {
    offered_.reset();
    return error(ErrorKind::kNotFound, "no Run came");
  }
  turn_.wait(lock, [&] { return lent_.has_value(); });
  return std::exchange(lent_, {}).value_or(
      error(ErrorKind::kInternal, "a Run that was lent to a trial has not come back"));
}

// A Run that takes long keeps the next one from coming: that is no reason for a frame of our own.
Result<SplitSession::TrialFrame> SplitSession::next_frame(const Offer& plan) {
  for (;;) {
    auto frame = lent_frame(plan);
    if (frame || frame.error().kind != ErrorKind::kNotFound || stop_requested_) return frame;
    {
      const std::lock_guard lock(mutex_);
      if (runs_come()) continue;
    }
    return own_frame(plan);
  }
}

// One of our own, where no Runs come; should one come now, it waits for a moment.
Result<SplitSession::TrialFrame> SplitSession::own_frame(const Offer& plan) {
  Guard::Budget budget;
  {
    std::unique_lock lock(mutex_);
    in_trial_ = true;
    turn_.wait_for(lock, as_us(2 * guard_.one_node_us()), [&] {
      return std::all_of(busy_.begin(), busy_.end(), [](int n) { return n == 0; });
    });
    budget = budget_of(plan);
  }
  const Nanoseconds start = now();
  auto outputs = plan.crew->run(input_views(*graph_, reference_inputs_),
                                Deadline::in(std::chrono::seconds(60)), patience_of(budget, start));
  const double took_us = us_since(start);
  {
    const std::lock_guard lock(mutex_);
    in_trial_ = false;
    turn_.notify_all();
  }
  if (!outputs) return tl::make_unexpected(std::move(outputs).error());
  plan.crew->release(*outputs);
  return TrialFrame{took_us, outputs->frame};
}

// Beside the program's Runs, which leave this node little time for it.
Result<void> SplitSession::compare_first_frame(Crew& crew) {
  constexpr std::chrono::milliseconds kLook{200};
  constexpr std::chrono::seconds kAlive{5};
  const Deadline limit = Deadline::in(std::chrono::minutes(10));
  Nanoseconds next_alive = now() + kAlive;
  const Aside aside(*this);
  OB_TRY(const std::uint64_t frame, crew.part().begin(input_views(*graph_, reference_inputs_)));
  for (;;) {
    auto views = crew.part().wait(frame, Deadline::in(kLook));
    if (views) {
      const Crew::Outputs outputs{*std::move(views), frame};
      const auto same = compare(outputs);
      crew.release(outputs);
      return same;
    }
    if (views.error().kind != ErrorKind::kTimeout || stop_requested_ || now() >= limit.at)
      return tl::make_unexpected(std::move(views).error());
    if (now() < next_alive) continue;
    crew.say_alive();
    next_alive = now() + kAlive;
  }
}

// With this node's own result.
Result<void> SplitSession::compare(const Crew::Outputs& outputs) {
  const std::vector<std::span<const std::byte>> whole(reference_.begin(), reference_.end());
  const double off = difference(*graph_, outputs.views, whole);
  const std::lock_guard lock(mutex_);
  status_.difference = off;
  if (off <= kRounding) return {};
  return error(ErrorKind::kInternal,
               "the plan's result differs from this node's own by {:.2g} of the largest value, "
               "beyond rounding",
               off);
}

// This node's own outputs, once: of a Run that the program asks for, or of one of our own.
Result<void> SplitSession::make_reference() {
  {
    std::unique_lock lock(mutex_);
    wants_reference_ = reference_.empty();
    while (wants_reference_ && runs_come() && !crew_ && !stop_requested_)
      if (turn_.wait_for(lock, as_us(3 * guard_.one_node_us())) == std::cv_status::timeout) break;
    wants_reference_ = false;
    if (!reference_.empty()) return {};
    reference_inputs_ = plausible_inputs(*graph_);
  }
  std::vector<engine::OutputWanted> wanted;
  wanted.reserve(output_of_.size());
  for (int o : output_of_) wanted.push_back({static_cast<std::uint32_t>(o), nullptr});
  OB_TRY(const auto own, aside([&] {
           return own_->run(input_views(*graph_, reference_inputs_), wanted, nullptr);
         }));
  const std::lock_guard lock(mutex_);
  for (const auto& v : own->values()) reference_.emplace_back(v.data.begin(), v.data.end());
  return {};
}

// The plan's result against this node's own, and its times.
Result<SplitSession::Trial> SplitSession::try_out(const std::shared_ptr<Crew>& crew,
                                                  const Foretold& plan) {
  constexpr int kLeast = 3, kMost = 9;  // frames; as many as go into that time
  constexpr double kTimeUs = 1500e3;
  OB_CHECK_OK(make_reference());
  OB_CHECK_OK(compare_first_frame(*crew));
  const Offer offer{crew, plan.makespan_us, plan.longest_call_us()};
  std::vector<double> took;
  std::vector<std::vector<double>> tasks(at(crew->part().layout().tasks()));
  double spent_us = 0;
  bool stood_still = false;
  for (int i = 0; i < kLeast || (i < kMost && spent_us < kTimeUs); ++i) {
    auto frame = next_frame(offer);
    // A link may stand still for a moment.
    if (!frame && frame.error().kind == ErrorKind::kTimeout && !std::exchange(stood_still, true))
      frame = next_frame(offer);
    if (!frame) return tl::make_unexpected(std::move(frame).error());
    spent_us += frame->took_us;
    took.push_back(frame->took_us);
    add_times(crew->part().times(frame->frame, Deadline::in(std::chrono::milliseconds(100))),
              tasks);
    const std::lock_guard lock(mutex_);
    if (guard_.spent() && frame->took_us > guard_.one_node_us() && !options_.always)
      return error(ErrorKind::kRefused, "the plan took {:.1f} ms and this node alone {:.1f}",
                   frame->took_us / 1e3, guard_.one_node_us() / 1e3);
  }
  Trial trial{median(std::move(took)), {}};
  for (auto& task : tasks) trial.tasks_us.push_back(median(std::move(task)));
  return trial;
}

// How nice what is computed aside has to be. A thread that wants to know waits until something may
// be lost to it.
int SplitSession::niceness() {
  constexpr double kRoom = 0.1;  // nineteen Runs beside such work leave more
  constexpr int kBesidePlan = 10;
  std::unique_lock lock(mutex_);
  if (options_.always) return 0;
  --aside_;  // who waits takes nothing
  while (!in_use() && runs_come() && guard_.room() < kRoom && !stop_requested_)
    turn_.wait_for(lock, std::chrono::milliseconds(100));
  ++aside_;
  return in_use() ? kBesidePlan : kAloneNiceness;
}

// What a Run takes on this node: by the program's own where there were some, because measuring
// would slow the next ones; else measured.
double SplitSession::one_node_us() {
  {
    const std::lock_guard lock(mutex_);
    if (!own_took_us_.empty()) return median({own_took_us_.begin(), own_took_us_.end()});
    if (status_.single_us > 0 && runs_come()) return status_.single_us;
  }
  return own_run_us(3);
}

double SplitSession::own_run_us(int times) {
  const auto memory = plausible_inputs(*graph_);
  const auto inputs = input_views(*graph_, memory);
  std::vector<engine::OutputWanted> wanted;
  wanted.reserve(info().outputs.size());
  for (std::uint32_t i = 0; i < info().outputs.size(); ++i) wanted.push_back({i, nullptr});
  const int threads = engine_.device() == "cpu" ? options_.threads : 0;
  return aside([&] {
    std::vector<double> took;
    took.reserve(at(times));
    for (int i = 0; i < times; ++i)
      took.push_back(time_run(*own_, inputs, wanted, threads).value_or(0));
    return median(std::move(took));
  });
}

}  // namespace outboard::split::exec
