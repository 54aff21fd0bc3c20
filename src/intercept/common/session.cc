// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/session.h"

#include <cstdint>

#include "base/log.h"
#include "intercept/common/progress.h"

namespace outboard::intercept {

// The half that belongs to one process; see the header.
struct Session::Live {
  Live(Process& p, const SessionSpec& spec)
      : process(p), generation(p.generation()), account(p.new_account(spec.model_name)) {
    account->set_model(spec.package->id().hex(), spec.package->total_bytes());
    link = p.links().empty() ? nullptr : p.links().front().get();
  }
  Process& process;
  const std::uint64_t generation;
  const std::shared_ptr<Account> account;
  std::mutex mutex;
  std::shared_ptr<wire::RemoteSession> remote;
  ServerLink* link = nullptr;  // the server that has it, or shall get it
  bool under_way = false;      // the background is at it, or waits for a server
  bool attached_after_fork = false;
  std::shared_ptr<LocalModel> local;
  std::mutex opening;  // held by the thread that opens the local side
};

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

ServerLink* Session::next_link(Process& process, const ServerLink* after) {
  for (const auto& link : process.links()) {
    if (link.get() != after && link->usable()) return link.get();
  }
  return nullptr;
}

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
      const std::lock_guard lock(live.mutex);
      live.remote = *remote;
      live.link = link.get();
      live.account->set_server(link->address());
      return (*remote)->description();
    }
    if (remote.error().kind == ErrorKind::kNotFound) {
      const std::lock_guard lock(live.mutex);
      live.link = link.get();
      return std::nullopt;
    }
    // Whoever creates the session says so, unless there is something worse to say.
    if (link->usable()) refused(live, *link, remote.error(), LogLevel::kInfo);
  }
  return std::nullopt;
}

void Session::set_local(std::shared_ptr<LocalModel> local) {
  Live& live = this->live();
  const std::lock_guard lock(live.mutex);
  live.local = std::move(local);
}

void Session::attach_later() {
  Live& live = this->live();
  ServerLink* link;
  {
    const std::lock_guard lock(live.mutex);
    if (live.remote != nullptr || live.link == nullptr || live.under_way) return;
    if (!live.link->usable()) {
      if (ServerLink* other = next_link(live.process, live.link)) live.link = other;
    }
    live.under_way = true;
    link = live.link;
  }
  link->enqueue(shared_from_this());
}

bool Session::attach_in_background(ServerLink& link) {
  Live& live = this->live();
  auto remote = link.open(*spec_.package, spec_.options, true);
  if (!remote && !link.usable()) {
    ServerLink* other = next_link(live.process, &link);
    if (other == nullptr) return false;
    {
      const std::lock_guard lock(live.mutex);
      live.link = other;
    }
    other->enqueue(shared_from_this());
    return true;
  }
  std::shared_ptr<LocalModel> unneeded;
  {
    const std::lock_guard lock(live.mutex);
    live.under_way = false;
    if (remote) {
      live.remote = std::move(*remote);
      live.link = &link;
      live.account->set_server(link.address());
      // What could not be opened again is kept.
      if (spec_.package->can_open_locally()) unneeded = std::move(live.local);
    }
  }
  if (!remote) {
    refused(live, link, remote.error(), LogLevel::kWarn);
  } else if (unneeded != nullptr) {
    log_info("model ({}) is at server ({}); the local session is given back", spec_.model_name,
             link.address());
    live.process.in_vendor_code([&] { unneeded.reset(); });
  }
  return true;
}

Session::Route Session::route() {
  Live& live = this->live();
  Route route;
  const std::lock_guard lock(live.mutex);
  Situation situation;
  situation.mode = live.process.config().mode;
  situation.server_has_session = live.remote != nullptr;
  situation.upload_under_way = live.under_way;
  if (live.link != nullptr) {
    situation.server_answers = live.link->usable();
    situation.server_drains = live.link->state() == ServerLink::State::kDraining;
  }
  route.choice = choose(situation);
  if (route.choice.place == Place::kServer) {
    route.remote = live.remote;
    route.link = live.link;
  }
  return route;
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
  OB_TRY(std::shared_ptr<LocalModel> opened, spec_.open_local());
  const std::lock_guard lock(live.mutex);
  live.local = opened;
  return opened;
}

bool Session::lost(const Route& route, const Error& error) {
  if (error.kind == ErrorKind::kEngine || error.kind == ErrorKind::kCancelled) return false;
  Live& live = this->live();
  {
    const std::lock_guard lock(live.mutex);
    if (live.remote == route.remote) live.remote = nullptr;
  }
  if (route.link->note(error) || error.kind == ErrorKind::kNotFound) {
    attach_later();
  } else {
    refused(live, *route.link, error, LogLevel::kWarn);
  }
  return true;
}

}  // namespace outboard::intercept
