// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/session.h"

#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "intercept/common/progress.h"

namespace outboard::intercept {

namespace {

double now_us() { return static_cast<double>(Clock::monotonic().now().count()) / 1e3; }
double us(std::uint64_t ns) { return static_cast<double>(ns) / 1e3; }

}  // namespace

// The half that belongs to one process; see the header.
struct Session::Live {
  // A server, by the place of its link.
  struct Side {
    ServerLink* link;
    std::shared_ptr<wire::RemoteSession> remote;
    bool under_way = false;  // the background is at it, or waits for the server
    bool refused = false;    // it would not take this model
    Backoff retry;           // while it is full
  };

  Live(Process& p, const SessionSpec& spec)
      : process(p),
        generation(p.generation()),
        account(p.new_account(spec.model_name)),
        estimates(p.links().size()) {
    account->set_model(spec.package->id().hex(), spec.package->total_bytes());
    for (const auto& link : p.links())
      sides.push_back({link.get(), nullptr, false, false, Backoff(p.random())});
  }
  Side& side_of(const ServerLink& link) {
    return *std::find_if(sides.begin(), sides.end(),
                         [&](const Side& s) { return s.link == &link; });
  }

  Process& process;
  const std::uint64_t generation;
  const std::shared_ptr<Account> account;
  Estimates estimates;
  std::mutex mutex;  // of what follows
  std::vector<Side> sides;
  std::shared_ptr<LocalModel> local;
  double local_open_us = 0;  // what opening it took
  bool local_failed = false;
  double local_begun_us = 0;  // when opening it began; 0: it is not being opened
  bool local_coming = false;  // being opened in the background
  std::mutex opening;         // held by the thread that opens the local side

  // Whether there is another side to choose as long as this one answers, however slowly.
  bool has_choice() const { return process.config().mode == Mode::kAuto || sides.size() > 1; }
  bool local_possible(const SessionSpec& spec) const;
  double local_opens_in_us(const SessionSpec& spec, double now) const;
};

namespace {

// Refusals that may be other ones later.
bool may_pass(ErrorKind kind) {
  return kind == ErrorKind::kOverloaded || kind == ErrorKind::kInternal ||
         kind == ErrorKind::kNotFound;
}

}  // namespace

// Under the mutex, as what follows it.
bool Session::Live::local_possible(const SessionSpec& spec) const {
  return process.config().mode == Mode::kAuto && !local_failed &&
         (local != nullptr || spec.package->can_open_locally());
}

// What opening the local side takes from now on.
double Session::Live::local_opens_in_us(const SessionSpec& spec, double now) const {
  // A guess before it was measured: what reading and preparing a model takes on an ordinary core.
  constexpr double kOpenBytesPerUs = 200;
  const double whole_us = local_open_us > 0 ? local_open_us
                                            : static_cast<double>(spec.package->total_bytes()) /
                                                  kOpenBytesPerUs / process.cpu_share(now);
  return local_begun_us > 0 ? std::max(whole_us - (now - local_begun_us), 1.0) : whole_us;
}

Session::Session(SessionSpec spec)
    : spec_(std::move(spec)), profile_(spec_.profiling ? std::make_unique<Trace>() : nullptr) {}

Session::~Session() {
  Live* live = live_.load();
  // Another process's half is left alone: its locks and sockets are not ours.
  if (live == nullptr || live->generation != Process::current().generation()) return;
  delete live;
}

Session::Live& Session::live() {
  Process& process = Process::current();
  Live* live = live_.load(std::memory_order_acquire);
  if (live != nullptr && live->generation == process.generation()) return *live;
  const bool after_fork = live != nullptr;
  auto fresh = std::make_unique<Live>(process, spec_);
  if (!live_.compare_exchange_strong(live, fresh.get(), std::memory_order_acq_rel)) {
    return *live;
  }
  Live& mine = *fresh.release();
  if (after_fork && !attach_now(process.config().mode == Mode::kRemote)) attach_later();
  return mine;
}

Account& Session::account() { return *live().account; }
std::shared_ptr<Account> Session::shared_account() { return live().account; }

void Session::refused(Live& live, const ServerLink& link, const Error& error, LogLevel level) {
  live.account->set_why_local(
      fmt::format("server ({}) would not take it: {}", link.address(), error.message));
  log(level, "model ({}) stays here: server ({}) would not take it: {}", spec_.model_name,
      link.address(), error.message);
}

std::optional<wire::SessionDescription> Session::attach_now(bool upload) {
  Live& live = this->live();
  for (const auto& link : live.process.links()) {
    if (!link->usable()) continue;
    Progress progress(fmt::format("uploading {} to {}", spec_.model_name, link->address()));
    auto remote = link->open(*spec_.package, spec_.options, upload,
                             [&](std::uint64_t done, std::uint64_t total) {
                               progress.show(done, total);
                               return true;
                             });
    if (remote) {
      {
        const std::lock_guard lock(live.mutex);
        live.side_of(*link).remote = *remote;
      }
      live.account->set_server(link->address());
      link->probe();
      attach_to_spares(live);
      return (*remote)->description();
    }
    if (may_pass(remote.error().kind)) return std::nullopt;
    // Whoever creates the session says so, unless there is something worse to say.
    if (!link->usable()) continue;
    refused(live, *link, remote.error(), LogLevel::kInfo);
    const std::lock_guard lock(live.mutex);
    live.side_of(*link).refused = true;
  }
  return std::nullopt;
}

void Session::set_local(std::shared_ptr<LocalModel> local) {
  Live& live = this->live();
  live.account->opened_local();
  const std::lock_guard lock(live.mutex);
  live.local = std::move(local);
}

// To the first server that answers; to the first of all where none does.
void Session::attach_later() {
  Live& live = this->live();
  Live::Side* next = nullptr;
  {
    const std::lock_guard lock(live.mutex);
    for (Live::Side& side : live.sides) {
      const bool ready = side.remote != nullptr && side.link->usable();
      if (ready || (side.under_way && side.link->usable())) return;
      if (side.refused || side.under_way || side.remote != nullptr) continue;
      if (next == nullptr || (!next->link->usable() && side.link->usable())) next = &side;
    }
    if (next == nullptr) return;
    next->under_way = true;
  }
  next->link->enqueue(shared_from_this());
}

// The others get the model as well, behind everything else, so that each Run can go to the server
// that answers soonest and a lost one is replaced at once.
void Session::attach_to_spares(Live& live) {
  std::vector<ServerLink*> spares;
  {
    const std::lock_guard lock(live.mutex);
    for (Live::Side& side : live.sides) {
      if (side.remote != nullptr || side.under_way || side.refused) continue;
      side.under_way = true;
      spares.push_back(side.link);
    }
  }
  for (ServerLink* link : spares) link->enqueue(shared_from_this());
}

// The side stays under way meanwhile.
void Session::retry_later(Live& live, ServerLink& link) {
  std::chrono::milliseconds delay{};
  {
    const std::lock_guard lock(live.mutex);
    Live::Side& side = live.side_of(link);
    side.under_way = true;
    delay = side.retry.next();
  }
  link.enqueue(shared_from_this(), delay);
}

bool Session::attach_in_background(ServerLink& link) {
  Live& live = this->live();
  bool is_spare = false;
  {
    const std::lock_guard lock(live.mutex);
    for (const Live::Side& side : live.sides)
      is_spare = is_spare || (side.link != &link && side.remote != nullptr && side.link->usable());
  }
  auto remote = link.open(*spec_.package, spec_.options, true,
                          is_spare ? link.behind_runs() : wire::Client::Progress{});
  if (!remote && !link.usable()) {
    attach_later();  // somewhere else meanwhile, where there is another
    return false;
  }
  if (!remote && may_pass(remote.error().kind)) {
    // Full, short of memory or of disk: not a word each time, and not for ever.
    bool again = false;
    {
      const std::lock_guard lock(live.mutex);
      again = live.side_of(link).retry.has_begun();
    }
    refused(live, link, remote.error(), again ? LogLevel::kDebug : LogLevel::kWarn);
    retry_later(live, link);
    return true;
  }
  const bool refuses = !remote;
  {
    const std::lock_guard lock(live.mutex);
    Live::Side& side = live.side_of(link);
    side.under_way = false;
    side.refused = refuses;
    if (remote) {
      side.remote = std::move(*remote);
      side.retry.reset();
    }
  }
  if (refuses) {
    refused(live, link, remote.error(), LogLevel::kWarn);
    attach_later();
    return true;
  }
  if (!is_spare) live.account->set_server(link.address());
  if (live.process.config().mode == Mode::kRemote) give_local_back(live);
  attach_to_spares(live);
  link.probe();
  return true;
}

// In the background, because closing a large model takes longer than many a Run. What could not be
// opened again is kept.
void Session::give_local_back(Live& live) {
  std::shared_ptr<LocalModel> unneeded;
  {
    const std::lock_guard lock(live.mutex);
    if (!spec_.package->can_open_locally() || live.local == nullptr || live.local_coming) return;
    unneeded = std::move(live.local);
  }
  live.account->gave_local_back();
  log_info("model ({}) is at a server; the local session is given back", spec_.model_name);
  live.process.async_pool().post(
      [&process = live.process, unneeded = std::move(unneeded)]() mutable {
        process.in_vendor_code([&] { unneeded.reset(); });
        // What was freed in pieces goes back to the system, too.
        ::malloc_trim(0);
      },
      2);
}

void Session::open_local_later() {
  Live& live = this->live();
  {
    const std::lock_guard lock(live.mutex);
    if (live.local != nullptr || live.local_failed || live.local_coming) return;
    live.local_coming = true;
  }
  live.process.async_pool().post(
      [self = shared_from_this(), &live]() mutable {
        live.process.in_vendor_code([&] {
          if (const auto opened = self->local(); !opened)
            log_debug("model ({}) cannot be opened here: {}", self->spec_.model_name,
                      opened.error().message);
          {
            const std::lock_guard lock(live.mutex);
            live.local_coming = false;
          }
          self.reset();
        });
      },
      2);
}

Session::Route Session::route(std::span<const std::uint32_t> wanted,
                              std::span<const wire::InputTensor> inputs) {
  Live& live = this->live();
  Route route = choose_route(live, run_key(wanted, inputs), inputs);
  if (route.decision.open_local) open_local_later();
  return route;
}

Session::Route Session::choose_route(Live& live, RunKey key,
                                     std::span<const wire::InputTensor> inputs) {
  Route route;
  route.key = key;
  const double now = now_us();
  Situation situation;
  situation.mode = live.process.config().mode;
  Sides sides;
  sides.servers.resize(live.sides.size());
  const std::lock_guard lock(live.mutex);
  sides.local_open = live.local != nullptr;
  sides.cpu_share = live.process.cpu_share(now);
  sides.local_open_us = live.local_opens_in_us(spec_, now);
  sides.local_possible = live.local_possible(spec_);
  for (std::size_t i = 0; i < live.sides.size(); ++i) {
    const Live::Side& side = live.sides[i];
    const bool answers = side.link->usable();
    situation.server_answers = situation.server_answers || answers;
    situation.server_drains =
        situation.server_drains || side.link->state() == ServerLink::State::kDraining;
    situation.server_is_distrusted =
        situation.server_is_distrusted || side.link->state() == ServerLink::State::kDistrusted;
    situation.upload_under_way = situation.upload_under_way || (side.under_way && answers);
    if (situation.mode == Mode::kLocal || side.remote == nullptr || !answers) continue;
    situation.server_has_session = true;
    sides.servers[i] = {true, side.link->estimate().view()};
  }
  situation.server_drains = situation.server_drains && !situation.server_answers;
  for (const wire::InputTensor& input : inputs) route.request_bytes += input.data.size();
  route.decision = live.estimates.decide(route.key, route.request_bytes, sides, now);
  situation.sooner_here = route.decision.side == kLocalSide;
  route.choice = choose(situation);
  for (std::size_t i = 0; i < live.sides.size(); ++i) {
    if (!sides.servers[i].usable) continue;
    if (route.decision.side != static_cast<int>(i)) {
      live.sides[i].link->watch();
      continue;
    }
    route.remote = live.sides[i].remote;
    route.link = live.sides[i].link;
  }
  return route;
}

void Session::ran_at_server(const Route& route, std::uint64_t time_ns,
                            const wire::RunAccount& run) {
  Live& live = this->live();
  route.link->count_answered();
  LinkEstimate& estimate = route.link->estimate();
  estimate.exchanged({.sent_bytes = run.bytes_sent,
                      .received_bytes = run.bytes_received,
                      .until_reply_us = us(run.send_ns - run.turn_ns + run.wait_ns),
                      .receive_us = us(run.receive_ns),
                      .server_receive_us = us(run.server.receive_ns),
                      .server_busy_us = us(run.server.queue_ns + run.server.compute_ns)});
  estimate.waits(us(run.server.queue_ns));
  live.estimates.server_ran(
      route.key, route.decision,
      {us(time_ns), us(run.server.compute_ns), run.bytes_sent, run.bytes_received}, estimate.view(),
      now_us());
  const Config& config = live.process.config();
  // In mode remote, too: a second try may have needed it.
  if (config.verify == 0 && live.estimates.local_is_idle()) give_local_back(live);
}

void Session::ran_here(const Route& route, std::uint64_t time_ns) {
  Live& live = this->live();
  if (route.decision.side != kLocalSide) return;  // it was lost elsewhere first
  if (time_ns == 0) return live.estimates.abandoned(route.decision);
  live.estimates.local_ran(route.key, route.decision, us(time_ns), now_us());
}

Result<std::shared_ptr<LocalModel>> Session::local() {
  Live& live = this->live();
  const auto there = [&] {
    const std::lock_guard lock(live.mutex);
    return live.local;
  };
  if (auto local = there()) return local;
  const std::lock_guard only_one(live.opening);
  if (auto local = there()) return local;
  const double begin_us = now_us();
  {
    const std::lock_guard lock(live.mutex);
    live.local_begun_us = begin_us;
  }
  auto opened = spec_.open_local();
  const std::lock_guard lock(live.mutex);
  live.local_begun_us = 0;
  live.local_failed = !opened;
  if (!opened) return opened;
  live.local_open_us = now_us() - begin_us;
  live.account->opened_local();
  live.local = *opened;
  return opened;
}

void Session::blameless(const Route& route) { live().estimates.abandoned(route.decision); }

void Session::overtaken(const Route& route, const OvertakenCost& cost, Lateness why) {
  Live& live = this->live();
  // What a server that does not answer would have taken is not known.
  if (why == Lateness::kSilent) return live.estimates.abandoned(route.decision);
  live.estimates.overtaken(route.key, route.decision, cost, route.link->estimate().view(),
                           now_us());
  // A server behind a slow link is well, and what Runs take there is known.
  if (why == Lateness::kSlowLink && live.has_choice()) return;
  route.link->suspect_slowness(cost.elapsed_us, route.request_bytes);
  attach_later();
}

void Session::link_fell(const Route& route, bool up, double us_per_byte) {
  // In mode remote a link that is slow is one to be waited for, until it is as fast as it was.
  if (live().has_choice()) route.link->estimate().fell(up, us_per_byte);
}

Session::Elsewhere Session::elsewhere(const Route& route) {
  Live& live = this->live();
  const double now = now_us();
  Elsewhere there;
  if (route.decision.other_side != kLocalSide) there.us = route.decision.other_us;
  const std::lock_guard lock(live.mutex);
  if (!live.local_possible(spec_)) return there;
  there.local_us = live.estimates.local_us(route.key, live.process.cpu_share(now));
  if (there.us > 0 || there.local_us == 0) return there;
  there.must_open = live.local == nullptr;
  there.us = there.local_us + (there.must_open ? live.local_opens_in_us(spec_, now) : 0);
  return there;
}

Session::Route Session::second_route(const Route& first) {
  Live& live = this->live();
  Route route;
  route.key = first.key;
  route.request_bytes = first.request_bytes;
  int side = kLocalSide;
  {
    const std::lock_guard lock(live.mutex);
    const bool any_server = live.process.config().mode == Mode::kRemote;
    for (std::size_t i = 0; i < live.sides.size() && side == kLocalSide; ++i) {
      const Live::Side& other = live.sides[i];
      const bool is_wanted = first.decision.other_side == static_cast<int>(i) ||
                             (any_server && other.link != first.link);
      if (!is_wanted || other.remote == nullptr || !other.link->usable()) continue;
      side = static_cast<int>(i);
      route.remote = other.remote;
      route.link = other.link;
      route.choice.place = Place::kServer;
    }
  }
  route.decision = live.estimates.begin_second(route.key, side);
  return route;
}

void Session::server_is_silent(const Route& route, double unheard_us) {
  route.link->suspect_silence(unheard_us);
  attach_later();
}

bool Session::lost(const Route& route, const Error& error) {
  Live& live = this->live();
  live.estimates.abandoned(route.decision);
  if (error.kind == ErrorKind::kEngine || error.kind == ErrorKind::kCancelled) return false;
  const bool is_server = route.link->note(error);
  const bool again = is_server || error.kind == ErrorKind::kNotFound;
  {
    const std::lock_guard lock(live.mutex);
    Live::Side& side = live.side_of(*route.link);
    if (side.remote == route.remote) side.remote = nullptr;
    side.refused = !again;
    if (again && !side.under_way) {
      side.under_way = true;
      route.link->enqueue(shared_from_this());
    }
  }
  if (!again) refused(live, *route.link, error, LogLevel::kWarn);
  attach_later();
  return true;
}

}  // namespace outboard::intercept
