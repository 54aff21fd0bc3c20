// SPDX-License-Identifier: Apache-2.0
// What a frame of the plan in use says: of the plan against one node, and of every node and link
// against what was planned of them.
#include <algorithm>
#include <map>

#include "base/log.h"
#include "split/exec/split_session.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

constexpr int kRarestReplan = 640, kSteady = 50;
constexpr double kFrameDiffers = 0.2;   // by which measured and planned times may differ
constexpr double kTellingShare = 0.05;  // of a frame, below which a node's part tells nothing
// Messages wait for a thread now and then, so a link is another one only at half or twice its time.
constexpr double kLinkDiffers = 1;
constexpr std::size_t kFrames = 10;

// By more than `by` up, or as much of it down: 0.2 is 1.2 and 0.8, 1 is 2 and 0.5.
bool differs(double ratio, double by) { return ratio > 1 + by || ratio < std::max(1 - by, 0.5); }

}  // namespace

// What a frame took, against one node and against the plan.
void SplitSession::account(Crew& crew, std::uint64_t frame, double took_us) {
  const std::lock_guard lock(mutex_);
  ++status_.split_runs;
  status_.measured_us = took_us;
  if (options_.always || crew_.get() != &crew) return;
  guard_.frame_came();
  frames_us_.push_back(took_us);
  if (frames_us_.size() > kFrames) frames_us_.pop_front();
  const auto reports = crew.part().times(frame, Deadline{Clock::monotonic().now()});
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

}  // namespace outboard::split::exec
