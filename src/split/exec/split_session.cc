// SPDX-License-Identifier: Apache-2.0
// The Run's side: which way it goes, and what happens when that way fails. The manager's thread is
// in split_manager.cc.
#include "split/exec/split_session.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/median.h"
#include "split/exec/measure.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

Nanoseconds now() { return Clock::monotonic().now(); }

Nanoseconds in_ns(double us) { return Nanoseconds(static_cast<std::int64_t>(us * 1e3)); }

constexpr std::size_t kOwnRuns = 5;
// Of a core, what work aside takes from a Run that leaves nothing (kAloneNiceness): the weights of
// both to the scheduler are 1024 and 15, and the rest is for what they do to each other's caches.
constexpr double kAsideShare = 0.018;

// Outputs in memory of their own.
class OwnedOutputs final : public engine::RunOutputs {
 public:
  void add(engine::ElementType type, std::vector<std::int64_t> dims,
           std::span<const std::byte> data, const engine::OutputBuffer* buffer) {
    std::span<const std::byte> kept = data;
    if (buffer != nullptr) {
      std::memcpy(buffer->data.data(), data.data(), std::min(data.size(), buffer->data.size()));
      kept = buffer->data.first(std::min(data.size(), buffer->data.size()));
    } else {
      kept = memory_.emplace_back(data.begin(), data.end());
    }
    values_.push_back({type, std::move(dims), kept, {}});
  }
  std::span<std::byte> room(engine::ElementType type, std::vector<std::int64_t> dims,
                            std::size_t size) {
    auto& memory = memory_.emplace_back(size);
    values_.push_back({type, std::move(dims), memory, {}});
    return memory;
  }

 private:
  std::deque<std::vector<std::byte>> memory_;
};

class RemoteSink final : public wire::OutputSink {
 public:
  explicit RemoteSink(OwnedOutputs& outputs) : outputs_(outputs) {}
  Result<std::span<std::byte>> allocate(std::size_t, const wire::TensorHeader& header) override {
    return outputs_.room(static_cast<engine::ElementType>(header.type), header.dims,
                         header.data_bytes);
  }
  Result<void> strings(std::size_t, const wire::TensorHeader&,
                       std::span<const std::string_view>) override {
    return error(ErrorKind::kUnimplemented, "strings are not handed out");
  }

 private:
  OwnedOutputs& outputs_;
};

}  // namespace

// Only inputs of exactly the planned shapes and types.
bool SplitSession::fits(std::span<const engine::InputView> inputs) const {
  if (!graph_ || inputs.size() != graph_->inputs.size()) return false;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& t = graph_->tensors[at(graph_->inputs[i])];
    if (!std::equal(t.shape.begin(), t.shape.end(), inputs[i].dims.begin(), inputs[i].dims.end()) ||
        t.element_type != static_cast<int>(inputs[i].type) || info().inputs[i].name != t.name)
      return false;
  }
  return true;
}

std::unique_ptr<engine::RunOutputs> SplitSession::copy_out(
    const Crew::Outputs& outputs, std::span<const engine::OutputWanted> wanted) const {
  auto copy = std::make_unique<OwnedOutputs>();
  for (const auto& w : wanted)
    for (std::size_t i = 0; i < output_of_.size(); ++i)
      if (output_of_[i] == static_cast<int>(w.index)) {
        const Tensor& t = graph_->tensors[at(graph_->outputs[i])];
        copy->add(static_cast<engine::ElementType>(t.element_type), t.shape, outputs.views[i],
                  w.buffer);
      }
  return copy;
}

// With the mutex held: who has computed one more whole image first.
int SplitSession::first_done() const {
  int first = options_.host;
  double best = 0;
  for (int m = 0; m < static_cast<int>(options_.members.size()); ++m) {
    if (m != options_.host && !whole_[at(m)]) continue;
    const double takes = (busy_[at(m)] + 1) * slowdown_[at(m)] / speed_[at(m)];
    if (best != 0 && takes >= best) continue;
    best = takes;
    first = m;
  }
  return first;
}

SplitSession::Way SplitSession::choose(std::span<const engine::InputView> inputs,
                                       std::span<const engine::OutputWanted> outputs) {
  // What comes from elsewhere comes in memory of its own.
  const bool plain = std::all_of(outputs.begin(), outputs.end(),
                                 [](const auto& w) { return w.buffer == nullptr; });
  Way way;
  way.member = options_.host;
  std::unique_lock lock(mutex_);
  way.undisturbed = !in_trial_;
  // A frame of a trial tells nothing beside a Run, which waits for it as long as it may.
  ++waiting_;
  turn_.wait_for(lock,
                 std::chrono::duration<double, std::micro>(guard_.room() * guard_.one_node_us()),
                 [&] { return !in_trial_; });
  --waiting_;
  way.alone = std::all_of(busy_.begin(), busy_.end(), [](int n) { return n == 0; });
  way.undisturbed &= way.alone;
  ++runs_;
  if (way.alone && offered_ && fits(inputs)) {
    way.crew = offered_->crew;
    way.budget = budget_of(*offered_);
    way.lent = true;
    offered_.reset();
    turn_.notify_all();
  } else if (way.alone && in_use() && crew_->part().abandoned_for() == Nanoseconds{} &&
             fits(inputs)) {
    way.crew = crew_;
    way.budget = budget_of({crew_, expected_us_, call_us_});
  } else if (!way.alone && plain && crew_ && fits(inputs)) {
    if (!std::exchange(overlap_, true) && !options_.always) {
      wants_whole_ = true;
      changed_.notify_all();
    }
    way.member = first_done();
    way.whole = whole_[at(way.member)];
  }
  ++busy_[at(way.member)];
  return way;
}

// With the mutex held: of a frame of this plan. The floor is for models that take no time.
Guard::Budget SplitSession::budget_of(const Offer& plan) const {
  Guard::Budget budget = guard_.budget(plan.expected_us, plan.call_us);
  budget.us = std::max(options_.least_budget_us, budget.us);
  budget.longest_us = std::max(budget.us, budget.longest_us);
  return budget;
}

FramePatience SplitSession::patience_of(const Guard::Budget& budget, Nanoseconds start) {
  return {{start + in_ns(budget.us)}, in_ns(budget.silence_us)};
}

// By a plan: null where that has come to nothing.
SplitSession::RunResult SplitSession::run_split(const Way& way,
                                                std::span<const engine::InputView> inputs,
                                                std::span<const engine::OutputWanted> outputs,
                                                Nanoseconds arrived) {
  const Nanoseconds start = now();
  auto ran =
      way.crew->run(inputs, {start + in_ns(way.budget.longest_us)}, patience_of(way.budget, start));
  if (!ran) {
    log_info("split frame computed here lent={} after_ms={:.1f} reason=\"{}\"", way.lent,
             us_since(start) / 1e3, ran.error().message);
    if (way.lent)
      give_back(tl::make_unexpected(ran.error()));
    else if (ran.error().kind != ErrorKind::kTimeout)
      give_up(way.crew, ran.error());
    const std::lock_guard lock(mutex_);
    ++status_.rescued_runs;
    return nullptr;  // the plan goes on when the frame does (split_manager.cc)
  }
  auto copy = copy_out(*ran, outputs);
  way.crew->release(*ran);
  {
    const std::lock_guard lock(mutex_);
    guard_.run_took(us_since(arrived));
  }
  if (way.lent)
    give_back(TrialFrame{us_since(start), ran->frame});
  else
    account(*way.crew, ran->frame, us_since(start));
  if (copy->values().size() != outputs.size()) return nullptr;
  return copy;
}

// By another node alone: null where that has come to nothing.
SplitSession::RunResult SplitSession::run_whole(const Way& way,
                                                std::span<const engine::InputView> inputs,
                                                std::span<const engine::OutputWanted> outputs) {
  std::vector<wire::InputTensor> tensors;
  for (const auto& in : inputs)
    tensors.push_back({{static_cast<wire::ElementType>(in.type),
                        {in.dims.begin(), in.dims.end()},
                        in.data.size()},
                       in.data});
  std::vector<std::uint32_t> indices;
  for (const auto& w : outputs) indices.push_back(w.index);
  auto copy = std::make_unique<OwnedOutputs>();
  RemoteSink sink(*copy);
  const auto ran = way.whole->run(indices, tensors, sink);
  const std::lock_guard lock(mutex_);
  if (ran) {
    ++status_.handed_out_runs;
    return copy;
  }
  // What the engine says is about this Run alone. Another may have opened a new one meanwhile.
  if (ran.error().kind != ErrorKind::kEngine && whole_[at(way.member)] == way.whole)
    whole_[at(way.member)].reset();
  ++status_.rescued_runs;
  return nullptr;
}

SplitSession::RunResult SplitSession::run_here(const Way& way,
                                               std::span<const engine::InputView> inputs,
                                               std::span<const engine::OutputWanted> outputs,
                                               engine::RunControl* control) {
  const Nanoseconds start = now();
  auto ran = own_->run(inputs, outputs, control);
  const double took_us = us_since(start);
  const std::lock_guard lock(mutex_);
  ++status_.own_runs;
  if (!ran || !way.undisturbed || way.crew) return ran;
  if (wants_reference_ && fits(inputs)) keep_reference(inputs, outputs, **ran);
  guard_.own_run_beside(aside_ > 0 && !in_use() ? kAsideShare : 0);
  if (aside_ > 0) return ran;
  own_took_us_.push_back(took_us);
  if (own_took_us_.size() > kOwnRuns) own_took_us_.pop_front();
  if (own_took_us_.size() == kOwnRuns)
    guard_.one_node_takes(median({own_took_us_.begin(), own_took_us_.end()}));
  return ran;
}

Result<std::unique_ptr<engine::RunOutputs>> SplitSession::run(
    std::span<const engine::InputView> inputs, std::span<const engine::OutputWanted> outputs,
    engine::RunControl* control) {
  const Nanoseconds arrived = now();
  const Way way = choose(inputs, outputs);
  struct Leave {
    SplitSession& s;
    int member;
    ~Leave() {
      const std::lock_guard lock(s.mutex_);
      --s.busy_[at(member)];
      s.last_run_ = now();
      s.turn_.notify_all();
    }
  } leave{*this, way.member};
  if (way.crew) {
    auto ran = run_split(way, inputs, outputs, arrived);
    if (!ran || *ran) return ran;
  } else if (way.whole) {
    auto ran = run_whole(way, inputs, outputs);
    if (!ran || *ran) return ran;
  }
  auto ran = run_here(way, inputs, outputs, control);
  if (!way.alone || (way.undisturbed && !way.crew)) return ran;
  bool given_up = false;
  {
    const std::lock_guard lock(mutex_);
    // With the frame that it waited for, or that came to nothing.
    guard_.run_took(us_since(arrived));
    if (way.crew && way.crew == crew_ && !options_.always) {
      guard_.frame_lost();
      given_up = guard_.is_lost();
    }
  }
  if (given_up) give_up(way.crew, {ErrorKind::kTimeout, "frames do not end in time", 0});
  return ran;
}

// With the mutex held: a Run that trials of plans are compared with.
void SplitSession::keep_reference(std::span<const engine::InputView> inputs,
                                  std::span<const engine::OutputWanted> wanted,
                                  const engine::RunOutputs& outputs) {
  std::vector<std::vector<std::byte>> whole;
  for (const int o : output_of_)
    for (std::size_t i = 0; i < wanted.size(); ++i)
      if (static_cast<int>(wanted[i].index) == o) {
        const auto& data = outputs.values()[i].data;
        whole.emplace_back(data.begin(), data.end());
      }
  if (whole.size() != output_of_.size()) return;  // a program that asks for some only
  for (const auto& in : inputs) reference_inputs_.emplace_back(in.data.begin(), in.data.end());
  reference_ = std::move(whole);
  wants_reference_ = false;
}

void SplitSession::give_back(Result<TrialFrame> frame) {
  const std::lock_guard lock(mutex_);
  ++status_.split_runs;
  lent_ = std::move(frame);
  turn_.notify_all();
}

void SplitSession::give_up(const std::shared_ptr<Crew>& crew, const Error& why) {
  crew->part().fail(why);
  const int lost = crew->lost_member();
  log_warn("split plan given up lost={} reason=\"{}\"",
           lost < 0 ? std::string("?") : options_.members[at(lost)].name, why.message);
  const std::lock_guard lock(mutex_);
  if (crew_ != crew) return;
  retired_.push_back(std::exchange(crew_, nullptr));
  status_.state = "one node: " + why.message;
  if (why.kind == ErrorKind::kTimeout && !options_.always) {
    wait_before_next_plan();
  } else {
    next_try_ = now();
    changed_.notify_all();
  }
}

// With the mutex held. More and more rarely, where plans come to nothing; by then links may be
// others, which no plan in use has shown.
void SplitSession::wait_before_next_plan() {
  links_in_doubt_ = !crew_;
  next_try_ = now() + backoff_;
  backoff_ = std::min<Nanoseconds>(backoff_ * 2, std::chrono::minutes(1));
  changed_.notify_all();
}

SplitStatus SplitSession::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

std::shared_ptr<Crew> SplitSession::crew() const {
  const std::lock_guard lock(mutex_);
  return crew_;
}

bool SplitSession::wait_until_settled(Deadline deadline) {
  std::unique_lock lock(mutex_);
  if (deadline.is_never()) {
    changed_.wait(lock, [&] { return settled_; });
    return true;
  }
  return changed_.wait_until(lock, std::chrono::steady_clock::time_point(deadline.at),
                             [&] { return settled_; });
}

}  // namespace outboard::split::exec
