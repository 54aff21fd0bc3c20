// SPDX-License-Identifier: Apache-2.0
// How a split session's manager comes to a plan: what it expects, what the frames of a trial took,
// and whether knowing that another plan is better.
#include <algorithm>
#include <map>

#include "base/log.h"
#include "base/median.h"
#include "split/exec/measure.h"
#include "split/exec/split_session.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

Nanoseconds now() { return Clock::monotonic().now(); }

// Inputs that a comparison can be made with.
std::vector<engine::InputView> views_of(const Graph& graph,
                                        std::vector<std::vector<std::byte>>& memory) {
  std::vector<engine::InputView> views;
  for (int i : graph.inputs) {
    const Tensor& t = graph.tensors[at(i)];
    const auto type = static_cast<engine::ElementType>(t.element_type);
    views.push_back({type, t.shape, memory.emplace_back(plausible_bytes(type, t.shape)), {}});
  }
  return views;
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

// Nodes and links as they are expected to be at work.
Cluster SplitSession::cluster_of(const std::vector<int>& present) const {
  const std::lock_guard lock(mutex_);
  Cluster cluster;
  for (int m : present) {
    profile::NodeRows node = corrections_.applied(m, *graph_, options_.cluster.node(m));
    node.flops_per_s /= slowdown_[at(m)];
    node.memory_bytes_per_s /= slowdown_[at(m)];
    for (auto& [name, curve] : node.units)
      for (double& us : curve.time_us) us *= slowdown_[at(m)];
    if (m == options_.host) cluster.host = static_cast<int>(cluster.nodes.size());
    cluster.nodes.push_back(std::move(node));
  }
  for (int a : present)
    for (int b : present)
      cluster.links.push_back(options_.cluster.links[at(a) * options_.members.size() + at(b)]);
  return cluster;
}

// The best program for the members that are there, its participants members.
Result<Program> SplitSession::find_program(const std::vector<int>& present) {
  const Cluster cluster = cluster_of(present);
  PlanResult result = options_.scheme == Scheme::kAuto
                          ? plan(*graph_, cluster, options_.request)
                          : plan_baseline(options_.scheme, *graph_, cluster);
  Program program = std::move(result.plan.programs[at(result.plan.images[0])]);
  for (int& p : program.participants) p = present[at(p)];
  const std::lock_guard lock(mutex_);
  for (int p : present) speed_[at(p)] = speed(*graph_, options_.cluster.node(p));
  if (std::find(program.participants.begin(), program.participants.end(), options_.host) ==
      program.participants.end())
    return error(ErrorKind::kRefused, "the best plan leaves this node out");
  return program;
}

// When this program is expected to do what.
SplitSession::Foretold SplitSession::foretell(const Program& program,
                                              const std::vector<int>& present) const {
  const Cluster cluster = cluster_of(present);
  Program numbered = program;
  for (int& p : numbered.participants)
    p = static_cast<int>(std::find(present.begin(), present.end(), p) - present.begin());
  Layout layout = LayoutBuilder(*graph_, cluster).build(numbered);
  SimulateOptions keep;
  keep.keep_spans = true;
  Schedule schedule = simulate(cluster, {{numbered}, {0}}, {layout}, keep);
  return {std::move(layout), std::move(schedule.spans), schedule.makespan_us};
}

double SplitSession::own_run_us(const Graph& graph, int times) {
  std::vector<std::vector<std::byte>> memory;
  const auto inputs = views_of(graph, memory);
  std::vector<engine::OutputWanted> wanted;
  wanted.reserve(info().outputs.size());
  for (std::uint32_t i = 0; i < info().outputs.size(); ++i) wanted.push_back({i, nullptr});
  std::vector<double> took;
  took.reserve(at(times));
  for (int i = 0; i < times; ++i)
    took.push_back(time_run(*own_, inputs, wanted, options_.threads).value_or(0));
  return median(std::move(took));
}

// Once: a unit that is measured again and again finds its weights in the cache, and in a whole
// model it does not. What one node takes for the whole model, against what its units add up to,
// corrects the units of all.
void SplitSession::calibrate() {
  if (calibrated_ || options_.cluster.node(options_.host).units.empty()) return;
  calibrated_ = true;
  const double pace = options_.members[at(options_.host)].pace;
  const double took_us = own_run_us(*graph_, 5) / (pace > 0 ? pace : 1);
  const double planned_us =
      plan_baseline(Scheme::kSingle, *graph_, options_.cluster).schedule.makespan_us;
  if (!(planned_us > 0) || !(took_us > 0)) return;
  const double factor = std::clamp(took_us / planned_us, 0.5, 3.0);
  log_info("split profiles corrected factor={:.2f} one_node_ms={:.1f} units_ms={:.1f}", factor,
           took_us / 1e3, planned_us / 1e3);
  const std::lock_guard lock(mutex_);
  for (std::size_t m = 0; m < slowdown_.size(); ++m) slowdown_[m] *= factor;
}

Result<std::shared_ptr<Crew>> SplitSession::set_up(const Program& program, int* culprit) {
  OB_TRY(auto crew,
         Crew::set_up(engine_, graph_, package_.get(), program, options_.members, options_.host,
                      {.contexts = options_.contexts,
                       .threads = options_.threads,
                       .block_channels = block_channels_,
                       .bands = options_.bands},
                      culprit));
  return std::shared_ptr<Crew>(std::move(crew));
}

// Whether the program's Runs follow each other, so that a trial need not wait for one in vain. With
// the mutex held.
bool SplitSession::runs_come() const {
  const bool under_way = std::any_of(busy_.begin(), busy_.end(), [](int n) { return n > 0; });
  return last_run_ != Nanoseconds{} && (under_way || us_since(last_run_) < trial_limit_us_);
}

// A frame that is a Run of the program's: whoever asks for it waits for a frame of the plan in
// place of one of the present one, and not for both.
Result<SplitSession::TrialFrame> SplitSession::lent_frame(const std::shared_ptr<Crew>& crew) {
  std::unique_lock lock(mutex_);
  if (!runs_come()) return error(ErrorKind::kNotFound, "no Run comes");
  lent_.reset();
  offered_ = crew;
  const std::chrono::duration<double, std::micro> patience(2 * trial_limit_us_);
  if (!turn_.wait_for(lock, patience, [&] { return !offered_; })) {
    offered_.reset();
    return error(ErrorKind::kNotFound, "no Run came");
  }
  turn_.wait(lock, [&] { return lent_.has_value(); });
  return std::exchange(lent_, {}).value_or(
      error(ErrorKind::kInternal, "a Run that was lent to a trial has not come back"));
}

// One of our own, when the program's Runs that are under way have ended; the next ones wait a
// moment.
Result<SplitSession::TrialFrame> SplitSession::own_frame(Crew& crew,
                                                         std::span<const engine::InputView> inputs,
                                                         bool compares) {
  {
    std::unique_lock lock(mutex_);
    in_trial_ = true;
    turn_.wait_for(lock, std::chrono::duration<double, std::micro>(2 * trial_limit_us_), [&] {
      return std::all_of(busy_.begin(), busy_.end(), [](int n) { return n == 0; });
    });
  }
  const Nanoseconds start = now();
  auto outputs = crew.run(inputs, Deadline::in(std::chrono::seconds(60)));
  const double took_us = us_since(start);
  {
    const std::lock_guard lock(mutex_);
    in_trial_ = false;
    turn_.notify_all();
  }
  if (!outputs) return tl::make_unexpected(std::move(outputs).error());
  const Result<void> same = compares ? compare(*outputs) : Result<void>();
  crew.release(*outputs);
  OB_CHECK_OK(same);
  return TrialFrame{took_us, outputs->frame, false};
}

// With this node's own.
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

// This node's own outputs for a trial's inputs, once.
Result<void> SplitSession::make_reference(std::span<const engine::InputView> inputs) {
  if (!reference_.empty()) return {};
  std::vector<engine::OutputWanted> wanted;
  wanted.reserve(output_of_.size());
  for (int o : output_of_) wanted.push_back({static_cast<std::uint32_t>(o), nullptr});
  const Nanoseconds start = now();
  OB_TRY(const auto own, own_->run(inputs, wanted, nullptr));
  const std::lock_guard lock(mutex_);
  trial_limit_us_ = us_since(start);
  for (const auto& v : own->values()) reference_.emplace_back(v.data.begin(), v.data.end());
  return {};
}

// The plan's result against this node's own, and its times.
Result<SplitSession::Trial> SplitSession::try_out(const std::shared_ptr<Crew>& crew) {
  constexpr int kLeast = 4, kMost = 10;  // frames; as many as go into that time
  constexpr double kTimeUs = 1500e3;
  constexpr double kMayLose = 1;  // Runs of one node, by those that were lent
  std::vector<std::vector<std::byte>> memory;
  const auto inputs = views_of(*graph_, memory);
  OB_CHECK_OK(make_reference(inputs));
  std::vector<double> took;
  std::vector<std::vector<double>> tasks(at(crew->part().layout().tasks()));
  double spent_us = 0, lost = 0;
  for (int i = 0; i < kLeast || (i < kMost && spent_us < kTimeUs); ++i) {
    const bool compares = i == 0;
    auto frame = compares ? own_frame(*crew, inputs, compares) : lent_frame(crew);
    if (!frame && frame.error().kind == ErrorKind::kNotFound)
      frame = own_frame(*crew, inputs, compares);
    if (!frame) return tl::make_unexpected(std::move(frame).error());
    spent_us += frame->took_us;
    if (i == 0) continue;
    took.push_back(frame->took_us);
    add_times(crew->part().times(frame->frame, Deadline::in(std::chrono::milliseconds(100))),
              tasks);
    if (frame->lent) lost += std::max(0.0, frame->took_us / trial_limit_us_ - 1);
    if (lost > kMayLose && !options_.always)
      return error(ErrorKind::kRefused, "the plan took {:.1f} ms and this node alone {:.1f}",
                   frame->took_us / 1e3, trial_limit_us_ / 1e3);
  }
  Trial trial{median(std::move(took)), {}};
  for (auto& task : tasks) trial.tasks_us.push_back(median(std::move(task)));
  return trial;
}

// What the trial of a plan says of nodes, and of how long a message is on its way: the mean of both
// directions, as clocks may differ.
void SplitSession::learn(const Proven& tried) {
  const Program& program = tried.crew->program();
  const Layout& layout = tried.plan.layout;
  const std::vector<double>& tasks_us = tried.trial.tasks_us;
  const std::size_t pieces = layout.pieces.size(), n = options_.members.size();
  const std::lock_guard lock(mutex_);
  if (corrections_.empty())
    corrections_ = Corrections(static_cast<int>(n), static_cast<int>(graph_->units.size()));
  corrections_.learn(program, layout, std::span(tasks_us).first(pieces));
  std::map<std::size_t, std::vector<double>> delays;  // by link
  for (std::size_t i = 0; i < layout.messages.size(); ++i) {
    const Message& m = layout.messages[i];
    const auto link = at(program.participants[at(m.from)]) * n + at(program.participants[at(m.to)]);
    const double rate = options_.cluster.links[link].rate_bytes_per_s;
    if (const double us = tasks_us[pieces + i]; us != 0 && rate > 0)
      delays[link].push_back(us - m.size_bytes / rate * 1e6);
  }
  for (const auto& [link, there] : delays) {
    const auto back = delays.find(link % n * n + link / n);
    if (there.size() < 3 || back == delays.end() || back->second.size() < 3) continue;
    options_.cluster.links[link].delay_us =
        std::max(0.0, (median(there) + median(back->second)) / 2);
  }
}

// A plan that what is known by now promises to be quicker than `planned_us`, tried.
Result<SplitSession::Proven> SplitSession::rival(const std::vector<int>& present,
                                                 double planned_us) {
  constexpr double kWorthTrying = 0.98;
  OB_TRY(const Program program, find_program(present));
  Proven proven{.plan = foretell(program, present)};
  if (program.size() < 2 || proven.plan.makespan_us > kWorthTrying * planned_us)
    return error(ErrorKind::kRefused, "no other plan promises more");
  OB_TRY(proven.crew, set_up(program, nullptr));
  OB_TRY(proven.trial, try_out(proven.crew));
  return proven;
}

// What a Run takes on this node: by the program's own where they come one after the other, because
// measuring would slow them; else measured.
double SplitSession::one_node_us() {
  constexpr std::size_t kEnough = 3;
  {
    const std::lock_guard lock(mutex_);
    if (runs_come() && own_took_us_.size() >= kEnough)
      return median({own_took_us_.begin(), own_took_us_.end()});
    if (runs_come() && status_.single_us > 0) return status_.single_us;
  }
  return own_run_us(*graph_, 3);
}

// The best plan, made again with what the frames of its trial took as long as that makes it
// quicker.
Result<SplitSession::Proven> SplitSession::prove(std::vector<int>& present) {
  Proven best;
  OB_TRY(best.crew, gather(present));
  best.plan = foretell(best.crew->program(), present);
  const double first_us = best.plan.makespan_us;
  OB_TRY(best.trial, try_out(best.crew));
  for (int left = options_.corrections; left > 0; --left) {
    learn(best);
    best.plan = foretell(best.crew->program(), present);
    if (options_.scheme != Scheme::kAuto || stop_requested_) break;
    auto other = rival(present, best.plan.makespan_us);
    if (!other || other->trial.took_us >= best.trial.took_us) break;
    log_info("split plan made anew planned_ms={:.1f} measured_ms={:.1f} before_ms={:.1f}",
             other->plan.makespan_us / 1e3, other->trial.took_us / 1e3, best.trial.took_us / 1e3);
    best = *std::move(other);
  }
  const double own_us = one_node_us();
  const std::lock_guard lock(mutex_);
  status_.single_us = own_us;
  status_.first_planned_us = first_us;
  return best;
}

}  // namespace outboard::split::exec
