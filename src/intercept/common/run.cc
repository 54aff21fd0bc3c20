// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/run.h"

#include <unistd.h>

#include <utility>

#include "base/clock.h"

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
// Run's, whoever computed it.
class WatchedSink final : public wire::OutputSink {
 public:
  explicit WatchedSink(wire::OutputSink& sink) : sink_(sink) {}
  Result<std::span<std::byte>> allocate(std::size_t index,
                                        const wire::TensorHeader& header) override {
    auto memory = sink_.allocate(index, header);
    failed_ = failed_ || !memory;
    return memory;
  }
  Result<void> strings(std::size_t index, const wire::TensorHeader& header,
                       std::span<const std::string_view> elements) override {
    auto filled = sink_.strings(index, header, elements);
    failed_ = failed_ || !filled;
    return filled;
  }
  bool failed() const { return failed_; }

 private:
  wire::OutputSink& sink_;
  bool failed_ = false;
};

void record(Session& session, std::int64_t start_ns, const Session::Route& route,
            const wire::RunAccount* run, LocalReason reason) {
  const std::uint64_t time_ns = since_ns(start_ns);
  Account& account = session.account();
  if (run != nullptr) {
    account.server_run(time_ns, *run);
  } else {
    account.local_run(time_ns, reason, route.choice.place == Place::kServer);
  }
  Trace* const traces[] = {Process::current().trace(), session.profile()};
  for (Trace* trace : traces) {
    if (trace == nullptr) continue;
    trace->add({.session = account.id(),
                .start_ns = start_ns,
                .time_ns = time_ns,
                .thread = thread_number(),
                .place = run != nullptr ? Place::kServer : Place::kLocal,
                .reason = reason,
                .run = run != nullptr ? *run : wire::RunAccount{}});
  }
}

Result<void> failed(Session& session, Error error) {
  if (error.native_code != kAnsweredByTheProgram) session.account().failed_run();
  return tl::make_unexpected(std::move(error));
}

}  // namespace

Result<void> answer(Session& session, ProgramRun& run) {
  const std::int64_t start_ns = Clock::monotonic().now().count();
  const Session::Route route = session.route(run.wanted(), run.inputs());
  LocalReason reason = route.choice.reason;
  if (route.choice.place == Place::kServer) {
    WatchedSink sink(run.outputs());
    auto answered = route.remote->run(run.wanted(), run.inputs(), sink, run.cancel());
    if (answered) {
      session.ran_at_server(route, since_ns(start_ns), *answered);
      record(session, start_ns, route, &*answered, LocalReason::kNone);
      return {};
    }
    if (sink.failed() ? session.blameless(route) : !session.lost(route, answered.error()))
      return failed(session, std::move(answered).error());
    reason = LocalReason::kServerGone;
  }
  const auto local = session.local();
  const std::int64_t begun_ns = Clock::monotonic().now().count();
  auto done = local ? run.run_here(**local) : tl::make_unexpected(local.error());
  session.ran_here(route, done ? since_ns(begun_ns) : 0);
  if (!done) return failed(session, std::move(done).error());
  record(session, start_ns, route, nullptr, reason);
  return {};
}

}  // namespace outboard::intercept
