// SPDX-License-Identifier: Apache-2.0
// A session that several nodes compute together when that pays, and this node alone when it does
// not: what a program that opened it never notices.
//
// A thread of its own measures nodes and links, plans, sets the plan up, compares its result with
// this node's own once, and puts it in use between two Runs. A Run whose plan fails, or takes
// longer than this node alone would, is computed here; the plan is given up, nodes that are gone
// are left out of the next one, and taken back when they answer again. A plan that turns out
// slower than one node is given up. Where Runs overlap, whole images go to whoever is free.
//
// Thread-safe, like every engine::Session.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "split/exec/corrections.h"
#include "split/exec/crew.h"
#include "split/exec/guard.h"
#include "split/plan/search.h"

namespace outboard::split::exec {

struct SplitOptions {
  std::vector<Member> members;  // the host among them, without a client
  int host = 0;
  // Profiles and links by member; what is not marked as measured is measured.
  Cluster cluster;
  std::vector<char> measured_nodes, measured_links;
  Scheme scheme = Scheme::kAuto;
  int threads = 0;
  int contexts = 1;                    // frames that may be under way at once
  PlanRequest request{};               // of every plan
  double least_gain = 1.05;            // measured; below it one node is used
  std::shared_ptr<BandStore> bands{};  // CrewOptions
  bool blocked = true;  // keep the engine's own layout between bands, where it has one
  bool always = false;  // use the plan whatever it gains (benchmarks, tests)
  // How often, before it is used, a plan may be made anew from what the frames of its trial took.
  int corrections = 0;
  double least_budget_us = 20e3;  // what a frame may take before it is computed here
  // Planning takes the host's time: it begins after so many Runs, and only for a model that takes
  // so long here.
  std::uint64_t plan_after_runs = 0;
  double least_single_us = 0;
  std::chrono::milliseconds retry{1000};  // doubles to a minute while plans fail
};

// What happened so far, for people and tests.
struct SplitStatus {
  std::string state;  // "planning", "split over 3 nodes", "one node: REASON"
  std::uint64_t split_runs = 0, own_runs = 0, handed_out_runs = 0, rescued_runs = 0, plans = 0;
  double single_us = 0, planned_us = 0, measured_us = 0;
  double first_planned_us = 0;  // from profiles alone, before any frame
  double difference = 0;        // of the comparison at set-up
};

class SplitSession final : public engine::Session {
 public:
  // `own`: the whole model on this node. `path`: its file.
  static std::shared_ptr<SplitSession> make(engine::Engine& engine,
                                            std::shared_ptr<engine::Session> own, std::string path,
                                            SplitOptions options);
  ~SplitSession() override;

  const engine::ModelInfo& info() const override { return own_->info(); }
  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> inputs,
                                                  std::span<const engine::OutputWanted> outputs,
                                                  engine::RunControl* control) override;
  SplitStatus status() const;
  // Returns when a plan is in use or there will be none for now; false after the timeout.
  bool wait_until_settled(Deadline deadline);
  std::shared_ptr<Crew> crew() const;
  // Once settled: with what was measured, and when the plan in use expects which of its tasks.
  const Cluster& cluster() const { return options_.cluster; }
  const std::vector<Span>& planned() const { return planned_; }

 private:
  SplitSession(engine::Engine& engine, std::shared_ptr<engine::Session> own, std::string path,
               SplitOptions options);
  void manage();
  Result<void> prepare();
  Result<void> establish();
  void shun(int member, const Error& why);
  void wait_before_next_plan();
  // What is expected of a program.
  struct Foretold {
    Layout layout;
    std::vector<Span> spans;
    double makespan_us = 0;
  };
  struct Trial {
    double took_us = 0;            // a frame; medians
    std::vector<double> tasks_us;  // by task of the layout; a message's from sender to receiver
  };
  // A plan that was set up and tried.
  struct Proven {
    std::shared_ptr<Crew> crew{};
    Foretold plan{};
    Trial trial{};
  };
  void calibrate();
  Result<Proven> prove(std::vector<int>& present);
  Result<Proven> rival(const std::vector<int>& present, double planned_us);
  Result<std::shared_ptr<Crew>> set_up(const Program& program, int* culprit);
  struct TrialFrame {
    double took_us = 0;
    std::uint64_t frame = 0;
    bool lent = false;  // it was a Run of the program's
  };
  Result<Trial> try_out(const std::shared_ptr<Crew>& crew);
  Result<TrialFrame> lent_frame(const std::shared_ptr<Crew>& crew);
  Result<TrialFrame> own_frame(Crew& crew, std::span<const engine::InputView> inputs,
                               bool compares);
  Result<void> compare(const Crew::Outputs& outputs);
  Result<void> make_reference(std::span<const engine::InputView> inputs);
  bool runs_come() const;
  double one_node_us();
  void give_back(Result<TrialFrame> frame);
  void learn(const Proven& tried);
  Cluster cluster_of(const std::vector<int>& present) const;
  Result<Program> find_program(const std::vector<int>& present);
  Foretold foretell(const Program& program, const std::vector<int>& present) const;
  std::vector<int> present_members();
  Result<void> measure_members(std::vector<int>& present);
  Result<void> complete_member(int member);
  Result<profile::NodeRows> measure_member(int member);
  Result<std::shared_ptr<Crew>> gather(std::vector<int>& present);
  void give_up(const std::shared_ptr<Crew>& crew, const Error& why);
  void account(Crew& crew, std::uint64_t frame, double took_us);
  bool count_link_deviation(const Crew& crew, const std::vector<std::vector<StepTime>>& reports);
  bool count_deviation(const Crew& crew, const std::vector<std::vector<StepTime>>& reports);
  std::unique_ptr<engine::RunOutputs> copy_out(const Crew::Outputs& outputs,
                                               std::span<const engine::OutputWanted> wanted) const;
  bool fits(std::span<const engine::InputView> inputs) const;
  int first_done() const;
  double own_run_us(const Graph& graph, int times);

  engine::Engine& engine_;
  const std::shared_ptr<engine::Session> own_;
  const std::string path_;
  SplitOptions options_;
  std::shared_ptr<const Graph> graph_;
  std::shared_ptr<const wire::ModelPackage> package_;
  std::vector<int> output_of_;  // graph output -> index into info().outputs

  mutable std::mutex mutex_;
  std::condition_variable changed_, turn_;
  bool in_trial_ = false;                   // a frame of one is under way; with the mutex held
  double trial_limit_us_ = 0;               // what a Run on this node takes
  std::shared_ptr<Crew> offered_;           // to the next Run, which is a trial's frame then
  std::optional<Result<TrialFrame>> lent_;  // what became of it
  Nanoseconds last_run_{};                  // when it ended
  std::deque<double> own_took_us_;          // the last Runs here with nothing beside them
  std::vector<std::vector<std::byte>> reference_;  // this node's outputs for a trial's inputs
  std::shared_ptr<Crew> crew_, retired_;
  std::vector<std::shared_ptr<wire::RemoteSession>> whole_;  // by member
  std::vector<int> busy_;                                    // Runs under way, by member
  std::vector<double> speed_;                                // by member, of its profile (plan.h)
  std::vector<double> slowdown_;            // by member: measured over planned, for the next plan
  std::vector<double> planned_compute_us_;  // by member, of the plan in use
  std::vector<Span> planned_;               // of the plan in use
  Corrections corrections_;                 // of profiles, from trials
  std::vector<double> deviation_, link_deviation_;  // sums over frames
  int deviating_frames_ = 0;
  int deviations_to_replan_ = kDeviations, steady_frames_ = 0;
  std::optional<Guard> guard_;
  // By member: a node that refused its part, or could not be linked up, is left out for a while.
  std::vector<Nanoseconds> shunned_until_, shunned_for_;
  std::string last_refusal_;
  static constexpr int kDeviations = 10;  // in a row, before the first new plan
  bool calibrated_ = false;
  int block_channels_ = 0;         // of rows between bands (blocked.h)
  std::vector<char> given_nodes_;  // measured_nodes as it was given
  SplitStatus status_;
  bool settled_ = false, replan_ = false;
  std::uint64_t runs_ = 0;
  std::vector<int> present_;  // members when the plan was made
  std::atomic<bool> stop_requested_{false};
  Nanoseconds next_try_{}, backoff_{};
  std::thread manager_;
};

}  // namespace outboard::split::exec
