// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/hedge.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace outboard::intercept {
namespace {

constexpr std::int64_t kLookAgainNs = 20'000'000;
// A Run that is under way for longer is looked at so often until it is late: do its bytes move?
constexpr std::int64_t kLookForBytesNs = 100'000'000;

std::int64_t now_ns() { return Clock::monotonic().now().count(); }
double us(std::int64_t ns) { return static_cast<double>(ns) / 1e3; }

HedgeInput input(const Session::Route& route) {
  const Decision& d = route.decision;
  return {.p99_us = d.p99_us,
          .bound_us = d.late_after_us,
          .expected_us = d.expected_us,
          .other_us = d.other_us,
          .deadline_us = Process::current().config().deadline_ms * 1e3};
}

}  // namespace

// What the program's thread and the second try share. Its mutex is held for as long as the inputs
// are copied, and never while anything is computed or waited for.
struct Hedge::Attempt {
  explicit Attempt(Process& p) : process(p) {}
  Process& process;
  std::shared_ptr<Session> session;
  Session::Route first_route;
  double silent_us = 0;      // for how long the server had been; 0: it was not
  double forecast_us = 0;    // what the first try will take, at least; 0: not known
  wire::CancelToken cancel;  // ends the second try

  std::mutex mutex;
  std::condition_variable changed;
  const ProgramRun* run = nullptr;     // until its thread has moved on, or the inputs are copied
  wire::CancelToken* first = nullptr;  // until the first try has ended
  bool has_inputs = false, is_done = false, overtook = false, is_given_up = false;
  Second second;

  // The second try's own.
  std::vector<std::uint32_t> wanted;
  std::vector<wire::InputTensor> inputs;
  std::vector<std::vector<std::byte>> data;

  bool take_inputs();
  void compute();
  void finish();
};

// False: the Run's thread went on without.
bool Hedge::Attempt::take_inputs() {
  const std::lock_guard lock(mutex);
  if (run == nullptr) return false;
  wanted.assign(run->wanted().begin(), run->wanted().end());
  for (const wire::InputTensor& input : run->inputs()) {
    data.emplace_back(input.data.begin(), input.data.end());
    inputs.push_back({input.header, data.back()});
  }
  run = nullptr;
  has_inputs = true;
  return true;
}

void Hedge::Attempt::compute() {
  if (cancel.is_cancelled()) {
    second.error = Error{ErrorKind::kCancelled, "the first try answered", 0};
    return;
  }
  const Session::Route route = session->second_route(first_route);
  const std::int64_t start = now_ns();
  if (route.remote != nullptr) {
    auto answered = route.remote->run(wanted, inputs, second.outputs, &cancel);
    if (answered) {
      session->ran_at_server(route, static_cast<std::uint64_t>(now_ns() - start), *answered);
      second.at_server = *answered;
      return;
    }
    second.at_server.emplace();
    session->lost(route, answered.error());
    second.error = std::move(answered).error();
    return;
  }
  const auto local = session->local();
  const std::int64_t begun = now_ns();
  auto done = local ? (*local)->run(wanted, inputs, second.outputs, &cancel)
                    : tl::make_unexpected(local.error());
  session->ran_here(route, done ? static_cast<std::uint64_t>(now_ns() - begun) : 0);
  if (!done) second.error = std::move(done).error();
}

void Hedge::Attempt::finish() {
  // It was ended because the process is. The program's thread stays where it is: coming out of the
  // library now could meet what is being taken down (Python's interpreter, for one).
  if (process.is_leaving()) return;
  const std::lock_guard lock(mutex);
  is_done = true;
  // An answer; or word that the program's own thread must do it.
  if (first != nullptr && (!second.error || second.error->native_code == kAnsweredByTheProgram)) {
    overtook = true;
    first->abandon();
  }
  changed.notify_all();
}

void Hedge::work(const std::shared_ptr<Attempt>& attempt) {
  Attempt& a = *attempt;
  if (a.silent_us > 0) a.session->server_is_silent(a.first_route, a.silent_us);
  if (a.take_inputs()) {
    a.process.cancels().add(&a.process, &a.cancel);
    if (a.process.is_leaving()) a.cancel.cancel();
    a.compute();
    a.process.cancels().remove(&a.cancel);
  }
  a.finish();
  a.session.reset();  // perhaps the last owner
}

Hedge::Hedge(Session& session, ProgramRun& run, const Session::Route& route, std::int64_t start_ns)
    : session_(session),
      run_(run),
      route_(route),
      start_ns_(start_ns),
      after_us_(HedgeRule::after_us(input(route))),
      usual_us_(HedgeRule::usual_us(input(route))),
      is_watched_(Process::current().config().hedging),
      forecast_(route.decision.usual) {
  if (!is_watched_) return;
  programs_cancel_.emplace(
      run.cancel(), [this](bool politely) { politely ? token_.cancel() : token_.abandon(); });
  Process::current().hedges().add(*this, next_look(start_ns));
}

void Hedge::first_ended() {
  if (!is_watched_) return;
  Process::current().hedges().remove(*this);
  if (attempt_ == nullptr) return;
  const std::lock_guard lock(attempt_->mutex);
  attempt_->run = nullptr;
  attempt_->first = nullptr;
}

Hedge::~Hedge() {
  if (attempt_ == nullptr) return;
  const bool is_done = [&] {
    const std::lock_guard lock(attempt_->mutex);
    return attempt_->is_done;
  }();
  if (!is_done) attempt_->cancel.abandon();
}

std::int64_t Hedge::next_look(std::int64_t now_ns) const {
  const std::int64_t late_ns = start_ns_ + static_cast<std::int64_t>(after_us_ * 1e3);
  return now_ns < late_ns ? std::min(late_ns, now_ns + kLookForBytesNs) : now_ns + kLookAgainNs;
}

std::int64_t Hedge::look(std::int64_t now_ns) {
  const std::uint64_t moved = token_.moved_bytes();
  const auto before = std::exchange(moved_bytes_, moved);
  if (before && moved >= *before + wire::Stream::kProgressBytes) moved_ns_ = now_ns;
  const std::int64_t heard_ns = std::max({token_.heard_ns(), start_ns_, moved_ns_});
  HedgeRule::Moment moment{.elapsed_us = us(now_ns - start_ns_),
                           .after_us = after_us_,
                           .unheard_us = us(now_ns - heard_ns),
                           .answered = route_.link->answered(),
                           .hedged = route_.link->hedged(),
                           .usual_us = usual_us_};
  forecast_.saw(moment.elapsed_us, moved);
  look_ahead(moment);
  // Whether bytes move takes two looks.
  if (!HedgeRule::may_begin(moment) || (!before && HedgeRule::is_silent(moment)))
    return next_look(now_ns);
  begin(moment);
  return HedgeWatch::kNever;
}

// Where the Run is slow because its bytes are, those that follow know it at once. They may be
// sooner here although it is too late for this one.
void Hedge::look_ahead(HedgeRule::Moment& moment) {
  moment.left_us = forecast_.left_us();
  if (!HedgeRule::is_slow(moment)) return;
  session_.link_fell(route_, forecast_.is_leaving(), forecast_.us_per_byte());
  const Session::Elsewhere there = session_.elsewhere(route_);
  moment.other_us = there.us;
  if (there.must_open && !HedgeRule::is_being_overtaken(moment) &&
      moment.left_us > HedgeRule::kMargin * there.local_us)
    session_.open_local_later();
}

void Hedge::begin(const HedgeRule::Moment& moment) {
  Process& process = Process::current();
  route_.link->count_hedged();
  attempt_ = std::make_shared<Attempt>(process);
  attempt_->session = session_.shared_from_this();
  attempt_->first_route = route_;
  attempt_->silent_us = HedgeRule::is_silent(moment) ? moment.unheard_us : 0;
  if (HedgeRule::is_slow(moment)) attempt_->forecast_us = moment.elapsed_us + moment.left_us;
  attempt_->run = &run_;
  attempt_->first = &token_;
  process.hedge_pool().post(
      [attempt = attempt_]() mutable {
        attempt->process.in_vendor_code([&] { work(attempt); });
        attempt.reset();
      },
      HedgeWatch::kThreads);
}

bool Hedge::overtook() const {
  if (attempt_ == nullptr) return false;
  const std::lock_guard lock(attempt_->mutex);
  return attempt_->overtook;
}

double Hedge::forecast_us() const { return attempt_ == nullptr ? 0 : attempt_->forecast_us; }

Session::Lateness Hedge::why() const {
  if (attempt_ == nullptr) return Session::Lateness::kUnknown;
  if (attempt_->silent_us > 0) return Session::Lateness::kSilent;
  return attempt_->forecast_us > 0 ? Session::Lateness::kSlowLink : Session::Lateness::kUnknown;
}

const Hedge::Second* Hedge::await_second() {
  if (attempt_ == nullptr) return nullptr;
  Attempt& a = *attempt_;
  // The program's own cancel, which the first try does not hear any more.
  programs_cancel_.reset();
  const wire::CancelWatch watch(run_.cancel(), [&a](bool) {
    const std::lock_guard lock(a.mutex);
    a.is_given_up = true;
    a.changed.notify_all();
  });
  std::unique_lock lock(a.mutex);
  if (!a.has_inputs) return nullptr;
  a.changed.wait(lock, [&] { return a.is_done || a.is_given_up; });
  if (a.is_done) return &a.second;
  cancelled_.error = Error{ErrorKind::kCancelled, "Run was cancelled", 0};
  return &cancelled_;
}

}  // namespace outboard::intercept
