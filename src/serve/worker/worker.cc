// SPDX-License-Identifier: Apache-2.0
// Calls into a worker: connections, models, limits. worker_process.cc has the process.
#include "serve/worker/worker.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "base/memory.h"
#include "wire/transport/socket.h"

namespace outboard::serve {
namespace {

// A worker sends heartbeats; silence for this long is one whose machine is at a stand.
constexpr std::chrono::milliseconds kSilence{20'000};
constexpr Nanoseconds kTimeToRetire = std::chrono::seconds(2);

wire::ClientOptions client_options(std::function<Result<std::unique_ptr<wire::Stream>>()> connect) {
  wire::ClientOptions options;
  options.software = "outboard server";
  options.stall_timeout = kSilence;
  options.control_timeout = kSilence;
  options.waits_when_cancelled = true;
  options.connect = std::move(connect);
  return options;
}

wire::Access within_this_machine() {
  return wire::Access({.kind = wire::Endpoint::Kind::kUnix, .host = {}, .path = "worker"});
}

}  // namespace

Worker::Worker(WorkerStart start)
    : start_(std::move(start)),
      runs_(within_this_machine(), client_options([this] { return connect(); })),
      keeper_(within_this_machine(), client_options([this] { return connect(); })) {}

Result<std::unique_ptr<wire::Stream>> Worker::connect() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return error(ErrorKind::kOverloaded, "no connection to a worker: {}",
                 std::generic_category().message(errno));
  auto stream = wire::make_socket_stream(ends[0]);
  const wire::FileDescriptor theirs(ends[1]);
  OB_CHECK_OK(hand_over({.what = Handed::kConnection}, theirs.get()));
  return stream;
}

Result<void> Worker::hand_over(const Handover& handover, int descriptor) {
  const std::lock_guard lock(handover_mutex_);
  if (!handover_ || has_ended()) return error(ErrorKind::kDisconnected, "the worker has ended");
  auto handed = hand(handover_.get(), handover, descriptor);
  // Out of step: the answer may still come.
  if (!handed && handed.error().kind == ErrorKind::kTimeout)
    end("it did not take what it was handed");
  return handed;
}

Result<Worker::Opened> Worker::open_both(const Sha256& model, const wire::SessionOptions& options) {
  Opened opened{.runs = nullptr, .keeps = nullptr, .model = model};
  const auto open = [&]() -> Result<void> {
    OB_TRY(opened.keeps, keeper_.open(model, options));
    OB_TRY(opened.runs, runs_.open(model, options));
    return {};
  };
  auto done = open();
  // What is open is kept; nothing opens it anew but by its name and options.
  (void)hand_over({.what = Handed::kForget, .model = model}, -1);
  if (!done) return tl::make_unexpected(std::move(done).error());
  return opened;
}

Result<Worker::Opened> Worker::open(const std::vector<File>& files,
                                    const wire::SessionOptions& options, bool to_show) {
  const Sha256 model = name_of(next_model_.fetch_add(1));  // that no other model has
  for (const File& file : files)
    OB_CHECK_OK(hand_over({to_show ? Handed::kModelToShow : Handed::kModelFile, model, file.name},
                          file.descriptor.get()));
  return open_both(model, options);
}

Result<Worker::Opened> Worker::open_placed(const Opened& opened,
                                           const wire::SessionOptions& options) {
  const Sha256 model = name_of(next_model_.fetch_add(1));
  OB_CHECK_OK(hand_over({Handed::kPlaced, model, opened.model.hex()}, -1));
  return open_both(model, options);
}

Result<void> Worker::hand_memory(std::uint64_t number, int descriptor) {
  {
    const std::lock_guard lock(mutex_);
    if (memories_.contains(number)) return {};
  }
  OB_CHECK_OK(hand_over({.what = Handed::kMemory, .model = name_of(number)}, descriptor));
  const std::lock_guard lock(mutex_);
  memories_.insert(number);
  return {};
}

void Worker::forget_memory(std::uint64_t number) {
  {
    const std::lock_guard lock(mutex_);
    if (memories_.erase(number) == 0) return;
  }
  (void)hand_over({.what = Handed::kForgetMemory, .model = name_of(number)}, -1);
}

bool Worker::enter() {
  const std::lock_guard lock(mutex_);
  if (retiring_ || ended_) return false;
  ++sessions_;
  return true;
}

void Worker::leave() {
  const std::lock_guard lock(mutex_);
  if (--sessions_ == 0) idle_since_ = Clock::monotonic().now();
}

std::size_t Worker::sessions() const {
  const std::lock_guard lock(mutex_);
  return sessions_;
}

std::string Worker::tenant() const {
  const std::lock_guard lock(mutex_);
  return start_.tenant;
}

double Worker::weight() const {
  const std::lock_guard lock(mutex_);
  return start_.weight;
}

void Worker::belongs_to(const std::string& tenant, double weight) {
  const std::lock_guard lock(mutex_);
  start_.tenant = tenant;
  start_.weight = weight;
}

// Under the mutex, as what reaps it: the number is this process's still. It leads a group of its
// own, so that the kernel reaches all threads at once.
bool Worker::set_nice(int nice) {
  const std::lock_guard lock(mutex_);
  return !end_ && ::setpriority(PRIO_PGRP, static_cast<id_t>(pid_), nice) == 0;
}

void Worker::set_yields(bool yields) {
  const std::lock_guard lock(mutex_);
  if (end_) return;
  if (std::exchange(yields_, yields) != yields) yields_to_be_set_ = 2;
  if (yields_to_be_set_ == 0) return;
  --yields_to_be_set_;
  constexpr sched_param kNone{};
  std::error_code ignored;
  const std::string folder = fmt::format("/proc/{}/task", pid_);
  for (const auto& task : std::filesystem::directory_iterator(folder, ignored))
    (void)::sched_setscheduler(std::atoi(task.path().filename().c_str()),
                               yields ? SCHED_IDLE : SCHED_OTHER, &kNone);
}

Nanoseconds Worker::cpu_time() const {
  const std::lock_guard lock(mutex_);
  clockid_t clock{};
  timespec time{};
  if (end_ || ::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &time) != 0)
    return {};
  return std::chrono::seconds(time.tv_sec) + Nanoseconds(time.tv_nsec);
}

Worker::Limit::Limit(Worker& worker, Nanoseconds time, const char* what, std::uint64_t request_id)
    : worker_(worker) {
  const Nanoseconds now = Clock::monotonic().now();
  worker.last_used_ns_.store(now.count(), std::memory_order_relaxed);
  const std::lock_guard lock(worker.mutex_);
  entry_ = worker.limits_.insert(worker.limits_.end(), UnderWay{now + time, what, request_id});
}

Worker::Limit::~Limit() {
  const std::lock_guard lock(worker_.mutex_);
  worker_.limits_.erase(entry_);
}

bool Worker::retire_if_quiet(bool only_unused) {
  {
    const std::lock_guard lock(mutex_);
    if (!limits_.empty() || retiring_ || (only_unused && sessions_ > 0)) return false;
    retiring_ = true;
    kill_at_ = Clock::monotonic().now() + kTimeToRetire;
  }
  // The end of its socket is what it ends by.
  const std::lock_guard lock(handover_mutex_);
  ::shutdown(handover_.get(), SHUT_RDWR);
  return true;
}

void Worker::end(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (why_.empty()) why_ = why;
  retiring_ = true;
  kill_at_ = Nanoseconds::zero();
  changed_.notify_all();
}

std::optional<Worker::End> Worker::how_it_ended(Nanoseconds patience) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience, [&] { return end_.has_value(); });
  return end_;
}

std::uint64_t Worker::resident_bytes() const { return outboard::resident_bytes(pid_); }

}  // namespace outboard::serve
