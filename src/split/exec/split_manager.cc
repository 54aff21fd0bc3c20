// SPDX-License-Identifier: Apache-2.0
// The manager's thread of a split session: which plan is in use, and when the next one is tried.
#include <algorithm>

#include "base/log.h"
#include "base/median.h"
#include "split/exec/blocked.h"
#include "split/exec/split_session.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

Nanoseconds now() { return Clock::monotonic().now(); }

constexpr auto kAlive = std::chrono::seconds(5);
constexpr auto kProbe = std::chrono::seconds(2);

}  // namespace

SplitSession::SplitSession(engine::Engine& engine, std::shared_ptr<engine::Session> own,
                           std::string path, SplitOptions options)
    : engine_(engine), own_(std::move(own)), path_(std::move(path)), options_(std::move(options)) {
  const std::size_t n = options_.members.size();
  whole_.resize(n);
  busy_.assign(n, 0);
  speed_.assign(n, 1);
  given_nodes_ = options_.measured_nodes;
  given_links_ = options_.measured_links;
  slowdown_.assign(n, 1);
  deviation_.assign(n, 0);
  planned_compute_us_.assign(n, 0);
  link_deviation_.assign(n * n, 0);
  shunned_until_.assign(n, {});
  shunned_for_.assign(n, options_.retry);
  status_.state = "planning";
  backoff_ = options_.retry;
}

std::shared_ptr<SplitSession> SplitSession::make(engine::Engine& engine,
                                                 std::shared_ptr<engine::Session> own,
                                                 std::string path, SplitOptions options) {
  std::shared_ptr<SplitSession> session(
      new SplitSession(engine, std::move(own), std::move(path), std::move(options)));
  session->manager_ = std::thread([raw = session.get()] { raw->manage(); });
  return session;
}

SplitSession::~SplitSession() {
  {
    const std::lock_guard lock(mutex_);
    stop_requested_ = true;
    changed_.notify_all();
  }
  manager_.join();
  log_info("split session ended state=\"{}\" split={} own={} handed_out={} rescued={} plans={}",
           status_.state, status_.split_runs, status_.own_runs, status_.handed_out_runs,
           status_.rescued_runs, status_.plans);
}

// Whether a Run takes long enough to be split: by the program's Runs, or once the graph is there by
// some of our own.
Result<void> SplitSession::check_worth() {
  if (options_.least_single_us <= 0) return {};
  double own_us = 0;
  {
    const std::lock_guard lock(mutex_);
    if (own_took_us_.empty() && !graph_) return {};
    own_us = median({own_took_us_.begin(), own_took_us_.end()});
  }
  if (own_us <= 0) own_us = one_node_us();
  const std::lock_guard lock(mutex_);
  guard_.one_node_takes(own_us);
  if (own_us >= options_.least_single_us) return {};
  return error(ErrorKind::kUnimplemented, "the model takes {:.1f} ms, too little to be split",
               own_us / 1e3);
}

// Once: the graph, the model's package, and which of the session's outputs is which.
Result<void> SplitSession::prepare() {
  if (graph_) return {};
  OB_CHECK_OK(check_worth());
  ShapeMap shapes;
  for (const auto& in : info().inputs) {
    if (!in.has_shape ||
        std::any_of(in.dims.begin(), in.dims.end(), [](auto d) { return d < 1; })) {
      // A batch of one is what is split; anything else that is open is not known here.
      Shape shape = in.dims;
      for (auto& d : shape) d = std::max<std::int64_t>(d, 1);
      if (shape.size() > 1 && std::count(in.dims.begin() + 1, in.dims.end(), -1) > 0)
        return error(ErrorKind::kUnimplemented,
                     "the input ({}) has a shape that is not fixed, so it is not split", in.name);
      shapes[in.name] = shape;
    }
  }
  OB_TRY(const auto graph, aside([&] { return open_graph(engine_, path_, shapes); }));
  OB_TRY(auto package, aside([&] { return wire::ModelPackage::from_path(path_); }));
  std::vector<int> output_of;
  for (int t : graph->outputs) {
    const std::string& name = graph->tensors[at(t)].name;
    int index = -1;
    for (std::size_t i = 0; i < info().outputs.size(); ++i)
      if (info().outputs[i].name == name) index = static_cast<int>(i);
    if (index < 0) return error(ErrorKind::kInternal, "the output ({}) is not known", name);
    output_of.push_back(index);
  }
  if (options_.blocked) block_channels_ = aside([&] { return block_channels(engine_); });
  {
    const std::lock_guard lock(mutex_);
    package_ = std::move(package);
    output_of_ = std::move(output_of);
    graph_ = graph;
  }
  return check_worth();
}

// Sets up the best plan for whoever takes part. A node that refuses is left out, and the others
// are asked for another plan.
Result<std::shared_ptr<Crew>> SplitSession::gather(std::vector<int>& present) {
  for (;;) {
    present = present_members();
    if (present.size() > 1) {
      OB_CHECK_OK(measure_members(present));
      calibrate();
    }
    if (present.size() < 2)
      return error(ErrorKind::kDisconnected, "{}",
                   last_refusal_.empty() ? "none of the other nodes answers" : last_refusal_);
    OB_TRY(const Program program, find_program(present));
    if (program.size() < 2 && !options_.always)
      return error(ErrorKind::kRefused, "the planner expects no gain from {} nodes",
                   present.size());
    OB_CHECK_OK(check_against_present(program, present));
    int culprit = -1;
    auto crew = set_up(program, &culprit);
    if (crew) return crew;
    if (stop_requested_) return tl::make_unexpected(std::move(crew).error());
    // Another processor's kernels, or none that say what they make of a model; or of this one.
    if (block_channels_ > 0 && (culprit < 0 || crew.error().kind == ErrorKind::kUnimplemented)) {
      log_info("split in the standard layout reason=\"{}\"", crew.error().message);
      block_channels_ = 0;
      // What was measured here was of the other layout.
      const std::lock_guard lock(mutex_);
      options_.measured_nodes = given_nodes_;
      std::fill(slowdown_.begin(), slowdown_.end(), 1.0);
      corrections_ = {};
      calibrated_ = borrowed_profile_ = false;
      continue;
    }
    if (culprit < 0) return tl::make_unexpected(std::move(crew).error());
    shun(culprit, crew.error());
  }
}

Result<void> SplitSession::establish() {
  OB_CHECK_OK(prepare());
  std::vector<int> present;
  OB_CHECK_OK(prove(present));
  const std::lock_guard lock(mutex_);
  for (int m : present) shunned_for_[at(m)] = options_.retry;
  if (present.size() == options_.members.size()) last_refusal_.clear();
  return {};
}

// What the frames of the plan in use are compared with. With the mutex held.
void SplitSession::set_expected(const Program& program, const Foretold& plan) {
  status_.planned_us = plan.makespan_us;
  std::fill(planned_compute_us_.begin(), planned_compute_us_.end(), 0.0);
  for (const Piece& piece : plan.layout.pieces)
    planned_compute_us_[at(program.participants[at(piece.participant)])] += piece.time_us;
  planned_ = plan.spans;
}

// From the next Run on, if it is worth it.
Result<void> SplitSession::put_in_use(const Proven& proven, const std::vector<int>& present) {
  const auto& [crew, plan, trial] = proven;
  const std::lock_guard lock(mutex_);
  present_ = present;
  if (!options_.always && trial.took_us * options_.least_gain > status_.single_us)
    return error(ErrorKind::kRefused,
                 "the plan over {} nodes takes {:.1f} ms and this node alone {:.1f}",
                 crew->program().size(), trial.took_us / 1e3, status_.single_us / 1e3);
  if (const double used_us = median({frames_us_.begin(), frames_us_.end()});
      crew_ && crew_ != crew && used_us > 0 && used_us <= trial.took_us)
    return error(ErrorKind::kRefused, "the new plan takes {:.1f} ms and the one in use {:.1f}",
                 trial.took_us / 1e3, used_us / 1e3);
  log_info("split plan in use nodes={} planned_ms={:.1f} measured_ms={:.1f} one_node_ms={:.1f}",
           crew->program().size(), plan.makespan_us / 1e3, trial.took_us / 1e3,
           status_.single_us / 1e3);
  ++status_.plans;
  status_.measured_us = expected_us_ = trial.took_us;
  call_us_ = plan.longest_call_us();
  status_.state = fmt::format("split over {} nodes", crew->program().size());
  set_expected(crew->program(), plan);
  if (crew_) retired_.push_back(std::move(crew_));
  crew_ = crew;
  replan_ = false;
  guard_.frame_came();
  frames_us_.clear();
  deviating_frames_ = steady_frames_ = 0;
  std::fill(deviation_.begin(), deviation_.end(), 0.0);
  std::fill(link_deviation_.begin(), link_deviation_.end(), 0.0);
  return {};
}

// The whole model on the nodes of the plan in use, where it is asked for: for when several Runs
// come at once.
void SplitSession::open_whole(std::unique_lock<std::mutex>& lock) {
  if (!crew_ || !std::exchange(wants_whole_, false)) return;
  const std::vector<int> members = present_;
  lock.unlock();
  for (int m : members) {
    {
      const std::lock_guard again(mutex_);
      if (m == options_.host || !options_.members[at(m)].client || whole_[at(m)]) continue;
    }
    // Level 3 is all that the engine has today, and tells the peer not to split it in turn.
    wire::SessionOptions whole;
    whole.graph_optimization_level = 3;
    auto remote = options_.members[at(m)].client->open(package_->id(), whole);
    const std::lock_guard again(mutex_);
    whole_[at(m)] = remote ? *std::move(remote) : nullptr;
  }
  lock.lock();
}

void SplitSession::manage() {
  Nanoseconds next_alive = now() + kAlive, next_probe = now() + kProbe;
  std::unique_lock lock(mutex_);
  while (!stop_requested_) {
    if (auto old = std::exchange(retired_, {}); !old.empty()) {
      lock.unlock();
      old.clear();  // joins their threads
      lock.lock();
    }
    auto failure = crew_ ? crew_->part().failure() : std::nullopt;  // between two frames
    if (crew_ && !failure && crew_->part().abandoned_for() > kStuck)
      failure = Error{ErrorKind::kTimeout, "a frame has not ended for long", 0};
    if (failure) {
      const auto crew = crew_;
      lock.unlock();
      give_up(crew, *failure);
      lock.lock();
      continue;
    }
    open_whole(lock);
    const bool wanted = runs_ >= options_.plan_after_runs;
    const bool due = wanted && ((!crew_ && now() >= next_try_) || replan_);
    if (due) {
      replan_ = false;
      lock.unlock();
      const auto done = establish();
      lock.lock();
      if (done) {
        backoff_ = options_.retry;
        wants_whole_ = !options_.always && (overlap_ || !runs_come());
        open_whole(lock);
      } else {
        if (!crew_) status_.state = "one node: " + done.error().message;
        log_info("no split plan reason=\"{}\"", done.error().message);
        if (done.error().kind == ErrorKind::kUnimplemented && !crew_)
          break;  // nor will there be one
        wait_before_next_plan();
        next_probe = std::max(next_probe, next_try_);
      }
      settled_ = true;
      changed_.notify_all();
      continue;
    }
    if (crew_ && now() >= next_alive) {
      crew_->say_alive();
      next_alive = now() + kAlive;
    }
    if (crew_ && now() >= next_probe && present_.size() < options_.members.size()) {
      lock.unlock();
      const auto present = present_members();
      lock.lock();
      next_probe = now() + kProbe;
      if (present.size() > present_.size()) replan_ = true;  // somebody is back
      continue;
    }
    changed_.wait_for(lock, std::chrono::milliseconds(200), [&] {
      return stop_requested_ || replan_ || wants_whole_ || !retired_.empty();
    });
  }
  settled_ = true;
  changed_.notify_all();
  auto crew = std::move(crew_);
  auto old = std::exchange(retired_, {});
  lock.unlock();
}

}  // namespace outboard::split::exec
