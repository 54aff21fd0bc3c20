// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/run.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "intercept/common/hedge.h"
#include "intercept/common/verify.h"

namespace outboard::intercept {
namespace {

std::uint32_t thread_number() {
  thread_local const auto number = static_cast<std::uint32_t>(::gettid());
  return number;
}

std::uint64_t since_ns(std::int64_t start_ns) {
  return static_cast<std::uint64_t>(Clock::monotonic().now().count() - start_ns);
}

// Knows whether it was the program's side that would not take an output: then its error is the
// Run's, whoever computed it. Where the Run is to be verified it remembers where the outputs are.
class WatchedSink final : public wire::OutputSink {
 public:
  struct Place {
    wire::TensorHeader header;
    std::span<const std::byte> data;
    std::vector<std::string> strings;
  };

  WatchedSink(wire::OutputSink& sink, bool remembers) : sink_(sink), remembers_(remembers) {}
  Result<std::span<std::byte>> allocate(std::size_t index,
                                        const wire::TensorHeader& header) override {
    auto memory = sink_.allocate(index, header);
    failed_ = failed_ || !memory;
    if (remembers_ && memory) places_.push_back({header, *memory, {}});
    return memory;
  }
  Result<void> admit_strings(std::size_t index, const wire::TensorHeader& header) override {
    auto admitted = sink_.admit_strings(index, header);
    failed_ = failed_ || !admitted;
    return admitted;
  }
  Result<void> strings(std::size_t index, const wire::TensorHeader& header,
                       std::span<const std::string_view> elements) override {
    auto filled = sink_.strings(index, header, elements);
    failed_ = failed_ || !filled;
    if (remembers_) places_.push_back({header, {}, {elements.begin(), elements.end()}});
    return filled;
  }
  bool failed() const { return failed_; }

  // What the server answered, as it lies in the program's memory now.
  std::vector<KeptOutputs::Output> outputs() const {
    std::vector<KeptOutputs::Output> all;
    all.reserve(places_.size());
    for (const Place& p : places_)
      all.push_back({p.header, {p.data.begin(), p.data.end()}, p.strings});
    return all;
  }

 private:
  wire::OutputSink& sink_;
  const bool remembers_;
  bool failed_ = false;
  std::vector<Place> places_;
};

// One Run, from its route to its account.
class Answer {
 public:
  Answer(Session& session, ProgramRun& run)
      : session_(session), run_(run), process_(Process::current()) {}
  Result<void> get();

 private:
  Result<void> at_server();
  Result<void> from_second(const Hedge::Second& second);
  Result<void> here(LocalReason reason);
  Result<void> verified(const WatchedSink& sink, const wire::RunAccount& answered);
  void record(const wire::RunAccount* run, LocalReason reason);
  Result<void> failed(Error error);

  Session& session_;
  ProgramRun& run_;
  Process& process_;
  const std::int64_t start_ns_ = Clock::monotonic().now().count();
  Session::Route route_;
};

void Answer::record(const wire::RunAccount* run, LocalReason reason) {
  const std::uint64_t time_ns = since_ns(start_ns_);
  Account& account = session_.account();
  if (run != nullptr) {
    account.server_run(time_ns, *run);
  } else {
    account.local_run(time_ns, reason, route_.choice.place == Place::kServer);
  }
  const double deadline_ms = process_.config().deadline_ms;
  if (deadline_ms > 0 && static_cast<double>(time_ns) > deadline_ms * 1e6)
    account.missed_deadline();
  const Decision& decision = route_.decision;
  if (decision.explores)
    account.explored_run(static_cast<std::uint64_t>(
        1e3 * decision.exploring_cost_us(static_cast<double>(time_ns) / 1e3)));
  Trace* const traces[] = {process_.trace(), session_.profile()};
  for (Trace* trace : traces) {
    if (trace == nullptr) continue;
    trace->add({.session = account.id(),
                .start_ns = start_ns_,
                .time_ns = time_ns,
                .thread = thread_number(),
                .place = run != nullptr ? Place::kServer : Place::kLocal,
                .reason = reason,
                .explores = decision.explores,
                .run = run != nullptr ? *run : wire::RunAccount{}});
  }
}

Result<void> Answer::failed(Error error) {
  if (error.native_code != kAnsweredByTheProgram) session_.account().failed_run();
  return tl::make_unexpected(std::move(error));
}

Result<void> Answer::get() {
  route_ = session_.route(run_.wanted(), run_.inputs());
  return route_.choice.place == Place::kServer ? at_server() : here(route_.choice.reason);
}

Result<void> Answer::at_server() {
  const bool verifies = process_.draws_verification();
  WatchedSink sink(run_.outputs(), verifies);
  Hedge hedge(session_, run_, route_, start_ns_);
  auto answered = route_.remote->run(run_.wanted(), run_.inputs(), sink, hedge.token());
  hedge.first_ended();
  if (answered) {
    session_.ran_at_server(route_, since_ns(start_ns_), *answered);
    if (hedge.has_begun()) session_.account().hedged_run(HedgeWinner::kFirst);
    if (verifies) return verified(sink, *answered);
    record(&*answered, LocalReason::kNone);
    return {};
  }
  const bool overtaken = hedge.overtook() && !sink.failed();
  if (overtaken) {
    const double elapsed_us = static_cast<double>(since_ns(start_ns_)) / 1e3;
    session_.overtaken(
        route_,
        {.elapsed_us = elapsed_us, .at_least_us = std::max(elapsed_us, hedge.forecast_us())},
        hedge.why());
  } else if (sink.failed()) {
    session_.blameless(route_);
    return failed(std::move(answered).error());
  } else if (!session_.lost(route_, answered.error())) {
    return failed(std::move(answered).error());
  }
  const Hedge::Second* second = hedge.await_second();
  // Nobody else has it: on this thread.
  if (second == nullptr ||
      (second->error && (second->at_server || second->error->native_code == kAnsweredByTheProgram)))
    return here(overtaken ? LocalReason::kLate : LocalReason::kServerGone);
  return from_second(*second);
}

Result<void> Answer::from_second(const Hedge::Second& second) {
  if (second.error) return failed(*second.error);
  if (auto delivered = second.outputs.deliver(run_.outputs()); !delivered)
    return failed(std::move(delivered).error());
  session_.account().hedged_run(second.at_server ? HedgeWinner::kOtherServer : HedgeWinner::kHere);
  record(second.at_server ? &*second.at_server : nullptr,
         second.at_server ? LocalReason::kNone : LocalReason::kLate);
  return {};
}

Result<void> Answer::here(LocalReason reason) {
  const auto local = session_.local();
  const std::int64_t begun_ns = Clock::monotonic().now().count();
  auto done = local ? run_.run_here(**local) : tl::make_unexpected(local.error());
  session_.ran_here(route_, done ? since_ns(begun_ns) : 0);
  if (!done) return failed(std::move(done).error());
  record(nullptr, reason);
  return {};
}

// The same Run here, and what differs. A Run that cannot be done here is not verified, and counted.
Result<void> Answer::verified(const WatchedSink& sink, const wire::RunAccount& answered) {
  Account& account = session_.account();
  const auto keep_answer = [&]() -> Result<void> {
    record(&answered, LocalReason::kNone);
    return {};
  };
  const auto local = session_.local();
  KeptOutputs own;
  auto done = local ? (*local)->run(run_.wanted(), run_.inputs(), own, run_.cancel())
                    : tl::make_unexpected(local.error());
  if (!done) {
    log_debug("a Run cannot be verified: {}", done.error().message);
    account.unverified_run();
    return keep_answer();
  }
  const auto difference = compare(sink.outputs(), own.all());
  if (!difference) {
    account.verified_run();
    return keep_answer();
  }
  const auto& names = route_.remote->description().outputs;
  const std::size_t output = run_.wanted()[difference->output];
  const std::string text = fmt::format(
      "model ({}), output ({}), element {}: server ({}) has ({}), this machine has ({}), which is "
      "{:.3g} apart; {} elements differ",
      session_.spec().model_name,
      output < names.size() ? names[output].name : fmt::format("{}", output), difference->index,
      route_.link->address(), difference->server, difference->local, difference->by,
      difference->elements);
  account.differing_run(text);
  log_warn("a Run was verified and differs: {}", text);
  if (!process_.config().verify_strict) return keep_answer();
  log_warn("server ({}) is not used any more by this process", route_.link->address());
  route_.link->distrust();
  if (auto delivered = own.deliver(run_.outputs()); !delivered)
    return failed(std::move(delivered).error());
  record(nullptr, LocalReason::kDistrusted);
  return {};
}

}  // namespace

Result<void> answer(Session& session, ProgramRun& run) { return Answer(session, run).get(); }

}  // namespace outboard::intercept
