// SPDX-License-Identifier: Apache-2.0
// What Runs of one session cost, here and on each server, and where the next one is done sooner.
//
//   const RunKey key = run_key(request);
//   Decision d = estimates.decide(key, request_bytes, sides, now_us);     // a place is taken
//   ... the Run ...
//   estimates.server_ran(key, d, cost, view, now_us)      // exactly one of the four gives it back
//   estimates.local_ran(key, d, total_us, now_us)
//   estimates.overtaken(key, d, cost, view, now_us)       // a second try was sooner
//   estimates.abandoned(d)                                // it failed there
//
// Kept for each key (input shapes, types and wanted outputs) and, because Runs of one program that
// are under way together slow each other, for each power of two of how many are under way on that
// side. A side that is in use is what its Runs say (Level). One that is not in use is predicted: a
// server by what its last Runs took, scaled by what the cost model (profile/run_cost.h) says of the
// link and the server's load now against then; a side that was never used by the other's computing
// time. An unknown side is believed to be as good as it can be, so it is tried, as long as that is
// better than what is known: at most kTrials Runs, fewer where the first was hopeless. Beyond that,
// a side is tried again only when its prediction says so, when what drove the Runs away was a
// single one and may have been an outlier, or out of a budget of kExploring of the time that Runs
// took, what the first trials cost included.
//
// A key of which nothing is known yet is decided by all Runs together: a program whose shapes vary
// has no other.
//
// Pure but for its lock: the clock is given, nothing is random. Thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "intercept/common/forecast.h"
#include "intercept/common/level.h"
#include "intercept/common/link_estimate.h"
#include "intercept/common/tail.h"
#include "wire/client.h"

namespace outboard::intercept {

using RunKey = std::uint64_t;
RunKey run_key(std::span<const std::uint32_t> wanted, std::span<const wire::InputTensor> inputs);

// What can be used at this moment.
struct Sides {
  struct Server {
    bool usable = false;  // it answers and has the session
    LinkView view;
  };
  std::vector<Server> servers;
  bool local_possible = true;  // nothing says that the model cannot be opened here
  bool local_open = false;
  double local_open_us = 0;  // what opening takes from now, or a guess; 0: neither
  double cpu_share = 1;      // of a core that this process may use
};

inline constexpr int kLocalSide = -1;

struct Decision {
  int side = kLocalSide;     // or the server's index
  unsigned load_class = 0;   // of Runs under way there; for the estimates alone
  double expected_us = 0;    // 0: nothing is known
  double late_after_us = 0;  // a Run that takes longer is not as usual; 0: nothing is known
  double p99_us = 0;         // of Runs like this at that server; 0: too few to know
  double other_us = 0;       // what the best other side that can be used would take; 0: none
  int other_side = kLocalSide;
  UsualRun usual;                   // what such Runs move and compute at that server
  std::uint64_t request_bytes = 0;  // of this one, as decide() was told
  std::uint64_t link_falls = 0;     // of the LinkView then
  bool explores = false;
  bool link_changed = false;  // expected_us rests on that
  bool open_local = false;    // the local side is worth opening, behind the program's back
  // What a Run that explored and took so long cost beyond the best other side.
  double exploring_cost_us(double total_us) const { return std::max(0.0, total_us - other_us); }
};

// What a Run at a server took.
struct ServerCost {
  double total_us = 0;    // of the whole Run, as the program sees it
  double compute_us = 0;  // in the server's engine
  std::uint64_t request_bytes = 0, reply_bytes = 0;
};

// What a Run took that was answered elsewhere first, and what it would have taken, at least.
struct OvertakenCost {
  double elapsed_us = 0, at_least_us = 0;
};

class Estimates {
 public:
  static constexpr double kExploring = 0.01;   // share of the time
  static constexpr double kHysteresis = 0.02;  // a side must be better by this to take over
  static constexpr std::uint64_t kTrials = 3;
  static constexpr double kStaleUs = 5e6;  // a side not used for so long may have changed
  static constexpr std::uint64_t kIdleRuns = 32;

  explicit Estimates(std::size_t servers) : servers_(servers), under_way_(servers + 1) {
    all_runs_.servers.resize(servers);
  }

  Decision decide(RunKey key, std::uint64_t request_bytes, const Sides& sides, double now_us);
  void server_ran(RunKey key, const Decision& d, const ServerCost& cost, const LinkView& view,
                  double now_us);
  void local_ran(RunKey key, const Decision& d, double total_us, double now_us);
  void overtaken(RunKey key, const Decision& d, const OvertakenCost& cost, const LinkView& view,
                 double now_us);
  void abandoned(const Decision& d);
  // What a Run here would take; where none was made, the best that it may be; 0: nothing is known.
  double local_us(RunKey key, double cpu_share);
  // A second try of a Run takes a place on `side`, whatever is sooner; given back like any other.
  Decision begin_second(RunKey key, int side);

  // Have so many Runs gone to servers since one was made, or was meant to be made, here that the
  // memory of the local side is better given back?
  bool local_is_idle() const;

 private:
  static constexpr std::size_t kLoadClasses = 8, kKeys = 256;
  using Levels = std::array<Level, kLoadClasses>;
  struct Side {
    Levels total_us;
    double last_us = 0;         // when its last Run ended
    std::uint64_t started = 0;  // Runs that were sent there
    double last_trial_us = 0;   // when one was sent there although nothing was known
  };
  struct Server : Side {
    Tail tail_us;
    Level compute_us;
    std::uint64_t sent_bytes = 0, reply_bytes = 0;  // of its last Run, as they travelled
    LinkView reference;                             // of when its last Run ended
    // How far the model of the link has to say "better" before it is believed: 1, halved by each
    // Run that it had promised too much for.
    double trust = 1;
  };
  struct Costs {
    Side local;
    std::vector<Server> servers;
    int last_side = kLocalSide;
    bool has_last = false;
  };
  struct Candidate {
    int side = kLocalSide;
    unsigned load_class = 0;
    double us = 0;
    double bound_us = 0;
    bool is_measured = false;
    bool link_changed = false;
    double hoped_us = 0;  // if the last Run there was an outlier; 0: it was not
    UsualRun usual;
    std::uint64_t request_bytes = 0, link_falls = 0;
    const Side* state = nullptr;
  };

  Costs& costs(RunKey key);
  static bool is_known(const Costs& costs);
  static Side& side_of(Costs& costs, int side);
  Candidate local_candidate(const Costs& costs, double cpu_share) const;
  Candidate server_candidate(const Costs& costs, std::size_t server, std::uint64_t request_bytes,
                             const LinkView& view) const;
  Decision go(Costs& costs, const Candidate& to, std::span<const Candidate> all, bool explores);
  double budget_us() const { return kExploring * spent_us_ - explored_us_; }
  void ended(const Decision& decision, double total_us);
  static double link_ratio(const Server& server, std::uint64_t request_bytes, const LinkView& view,
                           double us);
  static void add(Server& server, const Decision& d, double total_us, const LinkView& view);
  static void note(Server& server, const Decision& d, const ServerCost& cost, const LinkView& view,
                   double now_us);

  mutable std::mutex mutex_;
  const std::size_t servers_;
  std::map<RunKey, Costs> costs_;
  Costs all_runs_;
  std::vector<unsigned> under_way_;  // [0] here, [1 + i] on server i
  double spent_us_ = 0;              // of all Runs
  double explored_us_ = 0;           // what trials took beyond what the best was expected to
  std::uint64_t since_local_ = 0;    // Runs that went to servers since one was made here
};

}  // namespace outboard::intercept
