// SPDX-License-Identifier: Apache-2.0
// The second try of one Run that a server has not answered in time (hedge_rule.h says when): here,
// or on another server, whichever is expected to be sooner. The first answer is the Run's.
//
//   Hedge hedge(session, run, route, start_ns);          // on the program's thread
//   auto answered = route.remote->run(..., hedge.token());
//   hedge.first_ended();                                 // from here on nothing ends the first try
//   if (answered) return;                                // ~Hedge() ends the second one
//   if (hedge.overtook()) ...                            // that is why it failed
//   if (const Hedge::Second* second = hedge.await_second()) ...
//
// The first try stays on the program's thread and alone writes into the program's memory. The
// second one runs on a thread of ours with copies of the inputs and outputs of its own, which the
// program's thread copies once it knows that the first has ended. So what is left of a try that
// came too late touches nothing of the program's; nobody waits for it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "intercept/common/forecast.h"
#include "intercept/common/hedge_rule.h"
#include "intercept/common/hedge_watch.h"
#include "intercept/common/kept_outputs.h"
#include "intercept/common/run.h"
#include "intercept/common/session.h"

namespace outboard::intercept {

class Hedge final : private HedgeWatch::Entry {
 public:
  struct Second {
    std::optional<Error> error;  // none: `outputs` are whole
    KeptOutputs outputs;
    std::optional<wire::RunAccount> at_server;  // none: it ran here
  };

  // Borrows all of it.
  Hedge(Session& session, ProgramRun& run, const Session::Route& route, std::int64_t start_ns);
  ~Hedge() override;
  Hedge(const Hedge&) = delete;
  Hedge& operator=(const Hedge&) = delete;

  // Ends the first try; cancelled with the program's own token.
  wire::CancelToken* token() { return is_watched_ ? &token_ : run_.cancel(); }
  void first_ended();

  // After first_ended():
  bool has_begun() const { return attempt_ != nullptr; }
  bool overtook() const;  // the second try answered first, and ended the first one
  // Why the second one began, and what the first one would have taken by then, at least, if its
  // bytes moved; 0: not known.
  Session::Lateness why() const;
  double forecast_us() const;
  // Waits for a second try that is under way, or for the program's cancel (then its error is
  // kCancelled). nullptr: there is none, and the Run is done here on this thread.
  const Second* await_second();

 private:
  struct Attempt;
  std::int64_t next_look(std::int64_t now_ns) const;
  std::int64_t look(std::int64_t now_ns) override;
  void look_ahead(HedgeRule::Moment& moment);
  void begin(const HedgeRule::Moment& moment);
  static void work(const std::shared_ptr<Attempt>& attempt);

  Session& session_;
  ProgramRun& run_;
  const Session::Route& route_;
  const std::int64_t start_ns_;
  const double after_us_, usual_us_;
  const bool is_watched_;
  // Under the watch's lock: when bytes of the Run were seen to move, and where they were.
  std::int64_t moved_ns_ = 0;
  std::optional<std::uint64_t> moved_bytes_;
  Forecast forecast_;
  wire::CancelToken token_;
  std::optional<wire::CancelWatch> programs_cancel_;
  std::shared_ptr<Attempt> attempt_;  // made under the watch's lock
  Second cancelled_;
};

}  // namespace outboard::intercept
