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

constexpr double kWorthTrying = 0.98;  // of what another plan takes

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
  constexpr double kAgain = 0.2;  // of the first plan's effort, which finds nearly as good ones
  const Cluster cluster = cluster_of(present);
  PlanRequest request = options_.request;
  if (!options_.always && status().plans > 0) request.effort *= kAgain;
  PlanResult result = aside([&] {
    return options_.scheme == Scheme::kAuto ? plan(*graph_, cluster, request)
                                            : plan_baseline(options_.scheme, *graph_, cluster);
  });
  Program program = std::move(result.plan.programs[at(result.plan.images[0])]);
  for (int& p : program.participants) p = present[at(p)];
  const std::lock_guard lock(mutex_);
  for (int p : present) speed_[at(p)] = speed(*graph_, options_.cluster.node(p));
  if (std::find(program.participants.begin(), program.participants.end(), options_.host) ==
      program.participants.end())
    return error(ErrorKind::kRefused, "the best plan leaves this node out");
  return program;
}

double SplitSession::Foretold::longest_call_us() const {
  double longest = 0;
  for (const Piece& piece : layout.pieces) longest = std::max(longest, piece.time_us);
  return longest;
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

// Once: a unit that is measured again and again finds its weights in the cache, and in a whole
// model it does not. What one node takes for the whole model, against what its units add up to,
// corrects the units of all; or of this node alone, where it goes by another one's profile.
void SplitSession::calibrate() {
  if (calibrated_ || options_.cluster.node(options_.host).units.empty()) return;
  calibrated_ = true;
  const double pace = options_.members[at(options_.host)].pace;
  const double took_us = one_node_us() / (pace > 0 ? pace : 1);
  const double planned_us =
      plan_baseline(Scheme::kSingle, *graph_, options_.cluster).schedule.makespan_us;
  if (!(planned_us > 0) || !(took_us > 0)) return;
  const double factor = std::clamp(took_us / planned_us, 0.5, 3.0);
  log_info("split profiles corrected factor={:.2f} one_node_ms={:.1f} units_ms={:.1f}", factor,
           took_us / 1e3, planned_us / 1e3);
  const std::lock_guard lock(mutex_);
  for (std::size_t m = 0; m < slowdown_.size(); ++m)
    if (!borrowed_profile_ || static_cast<int>(m) == options_.host) slowdown_[m] *= factor;
}

Result<std::shared_ptr<Crew>> SplitSession::set_up(const Program& program, int* culprit) {
  const Aside aside(*this);
  OB_TRY(auto crew,
         Crew::set_up(engine_, graph_, package_.get(), program, options_.members, options_.host,
                      {.contexts = options_.contexts,
                       .threads = options_.threads,
                       .block_channels = block_channels_,
                       .bands = options_.bands,
                       .niceness = [this] { return niceness(); },
                       .first_frame_niceness = options_.always ? 0 : kAloneNiceness},
                      culprit));
  return std::shared_ptr<Crew>(std::move(crew));
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
  OB_TRY(const Program program, find_program(present));
  Proven proven{.plan = foretell(program, present)};
  if (program.size() < 2 || proven.plan.makespan_us > kWorthTrying * planned_us)
    return error(ErrorKind::kRefused, "no other plan promises more");
  OB_TRY(proven.crew, set_up(program, nullptr));
  OB_TRY(proven.trial, try_out(proven.crew, proven.plan));
  return proven;
}

// Where a plan is in use, another one has to promise more. If none does, the one in use is what is
// to be expected of the nodes as they are now.
Result<void> SplitSession::check_against_present(const Program& program,
                                                 const std::vector<int>& present) {
  const auto used = crew();
  if (!used || options_.always) return {};
  for (const int member : used->program().participants)
    if (std::find(present.begin(), present.end(), member) == present.end()) return {};
  const Foretold now = foretell(used->program(), present);
  const double promised_us = foretell(program, present).makespan_us;
  if (program.size() > 1 && promised_us < kWorthTrying * now.makespan_us) return {};
  {
    const std::lock_guard lock(mutex_);
    if (crew_ == used) set_expected(used->program(), now);
    present_ = present;  // whoever is back was thought of
  }
  return error(ErrorKind::kRefused,
               "of a new plan {:.1f} ms are expected, and of the one in use {:.1f}",
               promised_us / 1e3, now.makespan_us / 1e3);
}

// The best plan, in use as soon as it is worth it; made again with what the frames of its trial
// took as long as that makes it quicker.
Result<void> SplitSession::prove(std::vector<int>& present) {
  Proven best;
  OB_TRY(best.crew, gather(present));
  best.plan = foretell(best.crew->program(), present);
  const double first_us = best.plan.makespan_us;
  OB_TRY(best.trial, try_out(best.crew, best.plan));
  const double own_us = one_node_us();
  {
    const std::lock_guard lock(mutex_);
    status_.single_us = own_us;
    status_.first_planned_us = first_us;
    guard_.one_node_takes(own_us);
  }
  for (int left = options_.corrections;; --left) {
    if (left > 0) {
      learn(best);
      best.plan = foretell(best.crew->program(), present);
    }
    const Result<void> used = put_in_use(best, present);
    if (left <= 0 || options_.scheme != Scheme::kAuto || stop_requested_) return used;
    auto other = rival(present, best.plan.makespan_us);
    if (!other || other->trial.took_us >= best.trial.took_us) return used;
    log_info("split plan made anew planned_ms={:.1f} measured_ms={:.1f} before_ms={:.1f}",
             other->plan.makespan_us / 1e3, other->trial.took_us / 1e3, best.trial.took_us / 1e3);
    best = *std::move(other);
  }
}

}  // namespace outboard::split::exec
