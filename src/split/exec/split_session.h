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
// Nothing of that slows the program by more than guard.h allows: what the manager's thread computes
// is nice to the Runs, plans are tried with the program's own Runs, and what a Run takes here is
// learnt from them as well.
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

#include "base/own_thread.h"
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
  Result<void> check_worth();
  Result<void> establish();
  void shun(int member, const Error& why);
  void wait_before_next_plan();
  // What is expected of a program.
  struct Foretold {
    Layout layout;
    std::vector<Span> spans;
    double makespan_us = 0;
    double longest_call_us() const;
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
  // A frame of a plan that is offered to the program's next Run.
  struct Offer {
    std::shared_ptr<Crew> crew{};
    double expected_us = 0, call_us = 0;  // the frame, and its longest call
  };
  struct TrialFrame {
    double took_us = 0;
    std::uint64_t frame = 0;
  };
  // Which way a Run goes.
  struct Way {
    std::shared_ptr<Crew> crew{};                  // by its plan, null: not
    std::shared_ptr<wire::RemoteSession> whole{};  // as a whole image elsewhere, null: not
    int member = 0;                                // that has it to do
    Guard::Budget budget{};                        // of a frame
    bool lent = false;                             // the frame is a trial's
    bool alone = false;                            // no other Run is under way
    bool undisturbed = false;                      // nor a frame of a trial was
  };
  Way choose(std::span<const engine::InputView> inputs,
             std::span<const engine::OutputWanted> outputs);
  using RunResult = Result<std::unique_ptr<engine::RunOutputs>>;
  RunResult run_split(const Way& way, std::span<const engine::InputView> inputs,
                      std::span<const engine::OutputWanted> outputs, Nanoseconds arrived);
  RunResult run_whole(const Way& way, std::span<const engine::InputView> inputs,
                      std::span<const engine::OutputWanted> outputs);
  RunResult run_here(const Way& way, std::span<const engine::InputView> inputs,
                     std::span<const engine::OutputWanted> outputs, engine::RunControl* control);
  void calibrate();
  Result<void> prove(std::vector<int>& present);
  Result<Proven> rival(const std::vector<int>& present, double planned_us);
  Result<void> check_against_present(const Program& program, const std::vector<int>& present);
  Result<void> put_in_use(const Proven& proven, const std::vector<int>& present);
  void set_expected(const Program& program, const Foretold& plan);
  void open_whole(std::unique_lock<std::mutex>& lock);
  Result<std::shared_ptr<Crew>> set_up(const Program& program, int* culprit);
  Result<Trial> try_out(const std::shared_ptr<Crew>& crew, const Foretold& plan);
  Result<void> compare_first_frame(Crew& crew);
  Result<TrialFrame> next_frame(const Offer& plan);
  Result<TrialFrame> lent_frame(const Offer& plan);
  Result<TrialFrame> own_frame(const Offer& plan);
  Guard::Budget budget_of(const Offer& plan) const;
  static FramePatience patience_of(const Guard::Budget& budget, Nanoseconds start);
  bool in_use() const { return crew_ && guard_.may_begin(); }  // with the mutex held
  Result<void> compare(const Crew::Outputs& outputs);
  Result<void> make_reference();
  void keep_reference(std::span<const engine::InputView> inputs,
                      std::span<const engine::OutputWanted> wanted,
                      const engine::RunOutputs& outputs);
  bool runs_come() const;
  double one_node_us();
  int niceness();
  // While something is computed beside the program's Runs.
  struct Aside {
    explicit Aside(SplitSession& session) : session(session) { add(1); }
    ~Aside() { add(-1); }
    Aside(const Aside&) = delete;
    Aside& operator=(const Aside&) = delete;
    void add(int n) const {
      const std::lock_guard lock(session.mutex_);
      session.aside_ += n;
    }
    SplitSession& session;
  };
  // What `work` returns, computed beside them.
  template <class Work>
  auto aside(Work&& work) {
    const Aside mark(*this);
    return on_own_thread([&] {
      be_nice(niceness());
      return work();
    });
  }
  void give_back(Result<TrialFrame> frame);
  void learn(const Proven& tried);
  Cluster cluster_of(const std::vector<int>& present) const;
  Result<Program> find_program(const std::vector<int>& present);
  Foretold foretell(const Program& program, const std::vector<int>& present) const;
  std::vector<int> present_members();
  Result<void> measure_members(std::vector<int>& present);
  Result<void> complete_member(int member);
  bool borrow_profile(const std::vector<int>& measured);
  Result<profile::NodeRows> measure_member(int member);
  Result<std::shared_ptr<Crew>> gather(std::vector<int>& present);
  void give_up(const std::shared_ptr<Crew>& crew, const Error& why);
  void account(Crew& crew, std::uint64_t frame, double took_us);
  void correct_by_deviation();
  bool count_link_deviation(const Crew& crew, const std::vector<std::vector<StepTime>>& reports);
  bool count_deviation(const Crew& crew, const std::vector<std::vector<StepTime>>& reports);
  std::unique_ptr<engine::RunOutputs> copy_out(const Crew::Outputs& outputs,
                                               std::span<const engine::OutputWanted> wanted) const;
  bool fits(std::span<const engine::InputView> inputs) const;
  int first_done() const;
  double own_run_us(int times);

  engine::Engine& engine_;
  const std::shared_ptr<engine::Session> own_;
  const std::string path_;
  SplitOptions options_;
  std::shared_ptr<const Graph> graph_;
  std::shared_ptr<const wire::ModelPackage> package_;
  std::vector<int> output_of_;  // graph output -> index into info().outputs

  mutable std::mutex mutex_;
  std::condition_variable changed_, turn_;
  Guard guard_;
  bool in_trial_ = false;                   // a frame that no Run asked for is under way
  std::optional<Offer> offered_;            // to the next Run, which is a trial's frame then
  std::optional<Result<TrialFrame>> lent_;  // what became of it
  Nanoseconds last_run_{};                  // when it ended
  int waiting_ = 0;                         // Runs for a frame of a trial
  int aside_ = 0;                           // how much is computed aside
  std::deque<double> own_took_us_;          // the last Runs here with nothing beside them
  // This node's own outputs for some inputs: of a Run of the program's, where Runs come.
  bool wants_reference_ = false;
  std::vector<std::vector<std::byte>> reference_inputs_, reference_;
  std::shared_ptr<Crew> crew_;
  std::vector<std::shared_ptr<Crew>> retired_;
  double expected_us_ = 0, call_us_ = 0;  // of the plan in use (Offer)
  std::deque<double> frames_us_;          // its last ones
  // Runs have come at the same time; so the nodes are to open the whole model.
  bool overlap_ = false, wants_whole_ = false;
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
  // By member: a node that refused its part, or could not be linked up, is left out for a while.
  std::vector<Nanoseconds> shunned_until_, shunned_for_;
  std::string last_refusal_;
  static constexpr int kDeviations = 10;  // in a row, before the first new plan
  // Of what is computed aside where Runs are on this node alone: a sixtieth of a core that they
  // leave no time.
  static constexpr int kAloneNiceness = 19;
  // For so long a plan waits for a frame that was given up to end.
  static constexpr std::chrono::seconds kStuck{2};
  bool calibrated_ = false;
  bool links_in_doubt_ = false;                  // no plan in use has shown them for a while
  bool borrowed_profile_ = false;                // the host's
  int block_channels_ = 0;                       // of rows between bands (blocked.h)
  std::vector<char> given_nodes_, given_links_;  // measured_nodes and measured_links as given
  SplitStatus status_;
  bool settled_ = false, replan_ = false;
  std::uint64_t runs_ = 0;
  std::vector<int> present_;  // members when a plan was last thought of
  std::atomic<bool> stop_requested_{false};
  Nanoseconds next_try_{}, backoff_{};
  std::thread manager_;
};

}  // namespace outboard::split::exec
