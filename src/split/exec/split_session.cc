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

constexpr int kRarestReplan = 640, kSteady = 50;
constexpr double kFrameDiffers = 0.2;   // by which measured and planned times may differ
constexpr double kTellingShare = 0.05;  // of a frame, below which a node's part tells nothing
// Messages wait for a thread now and then, so a link is another one only at half or twice its time.
constexpr double kLinkDiffers = 1;
constexpr std::size_t kOwnRuns = 5, kFrames = 10;
// Of a core, what work aside takes from a Run that leaves nothing (kAloneNiceness): the weights of
// both to the scheduler are 1024 and 15, and the rest is for what they do to each other's caches.
constexpr double kAsideShare = 0.018;

// By more than `by` up, or as much of it down: 0.2 is 1.2 and 0.8, 1 is 2 and 0.5.
bool differs(double ratio, double by) { return ratio > 1 + by || ratio < std::max(1 - by, 0.5); }

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
  // A frame of a trial tells nothing beside a Run; no Run waits for longer than one of its own.
  turn_.wait_for(lock, std::chrono::duration<double, std::micro>(guard_.one_node_us()),
                 [&] { return !in_trial_; });
  way.alone = std::all_of(busy_.begin(), busy_.end(), [](int n) { return n == 0; });
  way.undisturbed &= way.alone;
  ++runs_;
  if (way.alone && offered_ && fits(inputs)) {
    way.crew = offered_->crew;
    way.budget = guard_.budget(offered_->expected_us, offered_->call_us);
    way.lent = true;
    offered_.reset();
    turn_.notify_all();
  } else if (way.alone && crew_ && fits(inputs)) {
    way.crew = crew_;
    way.budget = guard_.budget(expected_us_, call_us_);
  } else if (!way.alone && plain && crew_ && fits(inputs)) {
    if (!std::exchange(overlap_, true) && !options_.always) {
      wants_whole_ = true;
      changed_.notify_all();
    }
    way.member = first_done();
    way.whole = whole_[at(way.member)];
  }
  // The floor is for models that take no time.
  way.budget.us = std::max(options_.least_budget_us, way.budget.us);
  way.budget.longest_us = std::max(way.budget.us, way.budget.longest_us);
  ++busy_[at(way.member)];
  return way;
}

// By a plan: null where that has come to nothing.
SplitSession::RunResult SplitSession::run_split(const Way& way,
                                                std::span<const engine::InputView> inputs,
                                                std::span<const engine::OutputWanted> outputs,
                                                Nanoseconds arrived) {
  const Nanoseconds start = now();
  const auto in_us = [&](double us) {
    return Deadline{start + Nanoseconds(static_cast<std::int64_t>(us * 1e3))};
  };
  const Nanoseconds silence(static_cast<std::int64_t>(1e3 * way.budget.silence_us));
  auto ran = way.crew->run(inputs, in_us(way.budget.longest_us), {in_us(way.budget.us), silence});
  if (!ran) {
    if (way.lent)
      give_back(tl::make_unexpected(ran.error()));
    else
      give_up(way.crew, ran.error());
    const std::lock_guard lock(mutex_);
    ++status_.rescued_runs;
    return nullptr;
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
  guard_.own_run_beside(aside_ > 0 && !crew_ ? kAsideShare : 0);
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
  const std::lock_guard lock(mutex_);
  guard_.run_took(us_since(arrived));  // with the frame that it waited for, or that came to nothing
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

// What a frame took, against one node and against the plan.
void SplitSession::account(Crew& crew, std::uint64_t frame, double took_us) {
  const std::lock_guard lock(mutex_);
  ++status_.split_runs;
  status_.measured_us = took_us;
  if (options_.always || crew_.get() != &crew) return;
  frames_us_.push_back(took_us);
  if (frames_us_.size() > kFrames) frames_us_.pop_front();
  const auto reports = crew.part().times(frame, Deadline{now()});
  const bool node_deviates = count_deviation(crew, reports);
  const bool link_deviates = count_link_deviation(crew, reports);
  const bool deviates =
      node_deviates || link_deviates || differs(took_us / status_.planned_us, kFrameDiffers);
  if (deviates) ++deviating_frames_;
  if (took_us > guard_.one_node_us() && guard_.spent()) {
    if (deviates) correct_by_deviation();
    status_.state = "one node: the plan was slower than one node";
    log_warn(
        "split plan given up reason=\"slower than one node\" frame_ms={:.1f} one_node_ms={:.1f}",
        took_us / 1e3, guard_.one_node_us() / 1e3);
    retired_.push_back(std::exchange(crew_, nullptr));
    wait_before_next_plan();
  } else if (deviates) {
    steady_frames_ = 0;
    if (deviating_frames_ < deviations_to_replan_) return;
    // A new plan that is no better foretold is tried more and more rarely.
    deviations_to_replan_ = std::min(deviations_to_replan_ * 2, kRarestReplan);
    correct_by_deviation();
    replan_ = true;
    changed_.notify_all();
  } else if (++steady_frames_ >= kSteady) {
    deviations_to_replan_ = kDeviations;
  }
  deviating_frames_ = 0;
  std::fill(deviation_.begin(), deviation_.end(), 0.0);
  std::fill(link_deviation_.begin(), link_deviation_.end(), 0.0);
}

// With the mutex held: what deviating frames say of nodes and links, for the next plan.
void SplitSession::correct_by_deviation() {
  const auto factor = [&](double sum) { return std::clamp(sum / deviating_frames_, 0.1, 20.0); };
  for (std::size_t m = 0; m < deviation_.size(); ++m)
    if (deviation_[m] > 0) slowdown_[m] *= factor(deviation_[m]);
  for (std::size_t l = 0; l < link_deviation_.size(); ++l)
    if (link_deviation_[l] > 0)
      options_.cluster.links[l].rate_bytes_per_s /= factor(link_deviation_[l]);
}

// Part by part: what each node computed, against what it was planned to. A node that has become
// quicker, while another has most of the work, shows in its part alone. Whether one deviates.
bool SplitSession::count_deviation(const Crew& crew,
                                   const std::vector<std::vector<StepTime>>& reports) {
  bool deviates = false;
  for (int p = 0; p < crew.program().size(); ++p) {
    double measured = 0;
    const auto member = at(crew.program().participants[at(p)]);
    for (const StepTime& t : reports[at(p)])
      if (t.kind == StepKind::kCompute)
        measured += static_cast<double>(t.end_ns - t.start_ns) / 1e3;
    const double planned = planned_compute_us_[member];
    if (planned <= 0 || measured <= 0) continue;
    deviation_[member] += measured / planned;
    deviates |=
        planned > kTellingShare * status_.planned_us && differs(measured / planned, kFrameDiffers);
  }
  return deviates;
}

// What the messages took, from the sender's start to the receiver's last byte, against the link's
// delay and rate; small ones tell nothing of the rate. Whether a link is another than it was.
bool SplitSession::count_link_deviation(const Crew& crew,
                                        const std::vector<std::vector<StepTime>>& reports) {
  constexpr double kTelling = 16e3;
  const Layout& layout = crew.part().layout();
  const auto pieces = static_cast<int>(layout.pieces.size());
  std::vector<std::int64_t> sent(layout.messages.size(), 0);
  for (const auto& report : reports)
    for (const StepTime& t : report)
      if (t.kind == StepKind::kSend) sent[at(t.task - pieces)] = t.start_ns;
  std::map<std::size_t, std::pair<double, double>> sums;  // by link: measured, planned
  for (const auto& report : reports)
    for (const StepTime& t : report) {
      if (t.kind != StepKind::kReceive || sent[at(t.task - pieces)] == 0) continue;
      const Message& m = layout.messages[at(t.task - pieces)];
      const auto link = at(crew.program().participants[at(m.from)]) * options_.members.size() +
                        at(crew.program().participants[at(m.to)]);
      const double took = static_cast<double>(t.end_ns - sent[at(t.task - pieces)]) / 1e3;
      if (m.size_bytes < kTelling || took <= 0) continue;
      sums[link].first += took;
      sums[link].second += profile::transfer_us(options_.cluster.links[link],
                                                static_cast<std::uint64_t>(m.size_bytes));
    }
  bool deviates = false;
  for (const auto& [link, sum] : sums) {
    link_deviation_[link] += sum.first / sum.second;
    deviates |= differs(sum.first / sum.second, kLinkDiffers);
  }
  return deviates;
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

// With the mutex held. More and more rarely, where plans come to nothing.
void SplitSession::wait_before_next_plan() {
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
