// SPDX-License-Identifier: Apache-2.0
// One baton, handed over by futexes: whoever holds it is the only thread that runs and so the only
// one that touches the scheduler's state, which needs no lock. Everything that is drawn comes from
// one generator in the order of the execution, so equal seeds give equal executions.
#include "tests/faults/sim/scheduler.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

namespace outboard::sim {
namespace {

using std::chrono::nanoseconds;
constexpr nanoseconds kNever = nanoseconds::max();

struct Thread {
  std::uint64_t number = 0;
  Group home = 0;   // of the process that it was started in
  Group group = 0;  // that it acts for
  std::size_t locks = 0;
  unsigned long id = 0;  // pthread_t
  void* (*start)(void*) = nullptr;
  void* argument = nullptr;
  const void* waits_for = nullptr;
  nanoseconds deadline = kNever;
  bool runnable = true, woken = false, ended = false, detached = false;
  std::atomic<std::uint32_t> baton{0};
};

struct Scheduler {
  explicit Scheduler(const Options& o) : options(o), random(o.seed) {}
  const Options options;
  Random random;
  nanoseconds clock{std::chrono::seconds(1000)};
  std::uint64_t next_number = 1, ticks = 0;
  std::map<std::uint64_t, Thread*> threads;  // all that have not ended
  std::vector<Thread*> runnable;
  std::set<std::pair<nanoseconds, std::uint64_t>> timers;
  std::unordered_map<const void*, std::vector<Thread*>> waiting;
  std::set<Group> frozen;
  std::map<unsigned long, Thread*> by_id;
  Group group = 0;  // of the thread that runs
  std::function<void(Group)> group_switched;
  bool disk_full = false;
};

Scheduler* scheduler = nullptr;
thread_local Thread* self = nullptr;

void futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  ::syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

void give(Thread& thread) {
  thread.baton.store(1, std::memory_order_release);
  futex(thread.baton, FUTEX_WAKE, 1);
}

void await_baton(Thread& thread) {
  while (thread.baton.load(std::memory_order_acquire) == 0) futex(thread.baton, FUTEX_WAIT, 0);
  thread.baton.store(0, std::memory_order_relaxed);
}

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "simulation with seed %llu: %s at %.6f s\n",
               static_cast<unsigned long long>(scheduler->options.seed), what,
               static_cast<double>(scheduler->clock.count()) / 1e9);
  for (const auto& [number, thread] : scheduler->threads)
    std::fprintf(stderr, "  thread %llu of process %u %s%s\n",
                 static_cast<unsigned long long>(number), thread->group,
                 thread->runnable ? "can go on" : "waits",
                 scheduler->frozen.contains(thread->group) ? ", stopped" : "");
  std::abort();
}

// A stopped process' thread that holds a lock goes on until it has none: what it shares with others
// (the in-process pair) stands for the kernel, which a stopped process does not hold up.
bool is_stopped(const Thread& thread) {
  return thread.locks == 0 && scheduler->frozen.contains(thread.home);
}

void make_runnable(Thread& thread) {
  if (thread.runnable) return;
  thread.runnable = true;
  scheduler->runnable.push_back(&thread);
  if (thread.deadline != kNever) scheduler->timers.erase({thread.deadline, thread.number});
}

void stop_waiting(Thread& thread) {
  const auto found = scheduler->waiting.find(thread.waits_for);
  if (found == scheduler->waiting.end()) return;
  std::erase(found->second, &thread);
  if (found->second.empty()) scheduler->waiting.erase(found);
}

// Lets the clock go on to the next time limit; false: there is none.
bool advance_clock() {
  for (const auto& [at, number] : scheduler->timers) {
    Thread& thread = *scheduler->threads.at(number);
    if (is_stopped(thread)) continue;
    scheduler->clock = std::max(scheduler->clock, at);
    if (scheduler->clock > scheduler->options.time_limit + std::chrono::seconds(1000))
      give_up("the time limit passed");
    stop_waiting(thread);
    make_runnable(thread);
    return true;
  }
  return false;
}

Thread& choose_next() {
  for (;;) {
    auto& runnable = scheduler->runnable;
    if (scheduler->frozen.empty()) {
      if (!runnable.empty()) return *runnable[scheduler->random.below(runnable.size())];
    } else {
      std::vector<Thread*> free;
      for (Thread* thread : runnable)
        if (!is_stopped(*thread)) free.push_back(thread);
      if (!free.empty()) return *free[scheduler->random.below(free.size())];
    }
    if (!advance_clock()) give_up("nobody can go on");
  }
}

void enter_group(Group group) {
  if (scheduler->group == group) return;
  scheduler->group = group;
  if (scheduler->group_switched) scheduler->group_switched(group);
}

// Hands the baton on, and waits for it unless this thread has ended.
void hand_over(bool comes_back) {
  Thread& me = *self;
  Thread& next = choose_next();
  if (&next == &me) return;
  enter_group(next.group);
  give(next);
  if (comes_back) await_baton(me);
}

void end_self() {
  Thread& me = *self;
  me.ended = true;
  std::erase(scheduler->runnable, &me);
  scheduler->threads.erase(me.number);
  wake(&me, true);
  const bool forget = me.detached;
  if (forget) scheduler->by_id.erase(me.id);
  hand_over(false);
  self = nullptr;
  if (forget) delete &me;
}

}  // namespace

std::uint64_t Random::next() {  // splitmix64
  std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void simulate(const Options& options, const std::function<void()>& body) {
  // One runs at a time anyway: on one processor a baton changes hands without waking another.
  cpu_set_t before, one;
  ::sched_getaffinity(0, sizeof before, &before);
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(::sched_getcpu()), &one);
  ::sched_setaffinity(0, sizeof one, &one);
  const auto made = std::make_unique<Scheduler>(options);
  Thread first;
  scheduler = made.get();
  scheduler->threads.emplace(0, &first);
  scheduler->runnable.push_back(&first);
  self = &first;
  body();
  if (scheduler->threads.size() != 1) give_up("threads are left");
  self = nullptr;
  scheduler = nullptr;
  ::sched_setaffinity(0, sizeof before, &before);
}

void as_group(Group group, const std::function<void()>& call) {
  const Group mine = std::exchange(self->group, group);
  enter_group(group);
  call();
  self->group = mine;
  enter_group(mine);
}

void freeze(Group group) { scheduler->frozen.insert(group); }
void thaw(Group group) { scheduler->frozen.erase(group); }

std::size_t threads_of(Group group) {
  return static_cast<std::size_t>(
      std::count_if(scheduler->threads.begin(), scheduler->threads.end(),
                    [&](const auto& entry) { return entry.second->group == group; }));
}

void on_group_switch(std::function<void(Group)> callback) {
  scheduler->group_switched = std::move(callback);
}

void set_disk_full(bool full) { scheduler->disk_full = full; }
bool is_disk_full() { return scheduler->disk_full; }
nanoseconds now() { return scheduler->clock; }
void yield() { hand_over(true); }

bool wait_until(const std::function<bool()>& condition, nanoseconds limit) {
  const nanoseconds end = now() + limit;
  static const char nobody_wakes = 0;
  while (!condition()) {
    if (now() >= end) return false;
    block(&nobody_wakes, now() + std::chrono::milliseconds(5));
  }
  return true;
}

bool in_simulation() { return self != nullptr; }

void* spawn(void* (*start)(void*), void* argument) {
  auto* thread = new Thread;
  thread->number = scheduler->next_number++;
  thread->home = thread->group = self->group;
  thread->start = start;
  thread->argument = argument;
  scheduler->threads.emplace(thread->number, thread);
  scheduler->runnable.push_back(thread);
  return thread;
}

void* run_spawned(void* thread) {
  self = static_cast<Thread*>(thread);
  await_baton(*self);
  void* result = self->start(self->argument);
  end_self();
  return result;
}

void forget_spawned(void* thread) {
  auto* made = static_cast<Thread*>(thread);
  scheduler->threads.erase(made->number);
  std::erase(scheduler->runnable, made);
  delete made;
}

void name_spawned(void* thread, unsigned long id) {
  auto* made = static_cast<Thread*>(thread);
  made->id = id;
  scheduler->by_id[id] = made;
}

bool wait_for_end(unsigned long id) {
  const auto found = scheduler->by_id.find(id);
  if (found == scheduler->by_id.end()) return false;
  Thread* thread = found->second;
  while (!thread->ended) block(thread, kNever);
  scheduler->by_id.erase(id);
  delete thread;
  return true;
}

void detach(unsigned long id) {
  const auto found = scheduler->by_id.find(id);
  if (found == scheduler->by_id.end()) return;
  Thread* thread = found->second;
  thread->detached = true;
  if (!thread->ended) return;
  scheduler->by_id.erase(found);
  delete thread;
}

bool block(const void* address, nanoseconds deadline) {
  Thread& me = *self;
  me.waits_for = address;
  me.deadline = deadline;
  me.runnable = me.woken = false;
  std::erase(scheduler->runnable, &me);
  scheduler->waiting[address].push_back(&me);
  if (deadline != kNever) scheduler->timers.insert({deadline, me.number});
  hand_over(true);
  return me.woken;
}

void wake(const void* address, bool all) {
  const auto found = scheduler->waiting.find(address);
  if (found == scheduler->waiting.end()) return;
  std::vector<Thread*>& waiting = found->second;
  do {
    const std::size_t i = all ? 0 : scheduler->random.below(waiting.size());
    Thread& thread = *waiting[i];
    waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
    thread.woken = true;
    make_runnable(thread);
  } while (all && !waiting.empty());
  if (waiting.empty()) scheduler->waiting.erase(found);
}

void locked() { ++self->locks; }
void unlocked() {
  if (self->locks > 0) --self->locks;  // 0: it was taken before the simulation
}

void maybe_preempt() {
  if (scheduler->options.preempt_one_in != 0 &&
      scheduler->random.below(scheduler->options.preempt_one_in) == 0)
    yield();
}

void tick() {
  scheduler->clock += nanoseconds(50);
  maybe_preempt();
}

}  // namespace outboard::sim
