// SPDX-License-Identifier: Apache-2.0
// A deterministic scheduler beneath pthreads, and a clock that only moves when everybody waits.
//
// A program that is linked with it has its own pthread_create(), mutexes, condition variables,
// sleeps and clock_gettime() (pthread_hooks.cc). Outside simulate() they are the C library's.
// Inside, exactly one thread runs at any moment; which one goes on where one waits is drawn from
// the seed; when none can, the clock jumps to the next time limit. So the code under test is the
// real one, unchanged, a minute of its time takes a millisecond, and a seed is a whole execution.
//
//   simulate({.seed = 7}, [] {
//     std::thread worker([] { ... });           // any thread, mutex, condition variable, sleep
//     std::this_thread::sleep_for(10s);         // no time at all
//     worker.join();
//   });
//
// What it cannot see: system calls that block (a test's streams are in-process), and futexes
// outside pthreads (std::atomic::wait). A state in which nobody can ever go on ends the process
// with a message that names the seed and the threads. Thread-safety: simulate() from one thread at
// a time; the rest from inside.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace outboard::sim {

struct Options {
  std::uint64_t seed = 1;
  // A thread that takes a lock or reads the clock lets another go first, once in so many times.
  std::uint32_t preempt_one_in = 64;
  // More simulated time than this is a hang: the process ends with a message.
  std::chrono::nanoseconds time_limit = std::chrono::hours(1);
};

// Runs `body` as the first simulated thread. All threads that it starts must have ended, but for
// frozen ones, when it returns.
void simulate(const Options& options, const std::function<void()>& body);

// Groups stand for processes: a thread belongs to its creator's.
using Group = std::uint32_t;
void as_group(Group group, const std::function<void()>& call);  // on this thread, for the call
void freeze(Group group);                                       // as SIGSTOP does
void thaw(Group group);
std::size_t threads_of(Group group);
// Called with the group of the thread that is about to go on, whenever it changes.
void on_group_switch(std::function<void(Group)> callback);

std::chrono::nanoseconds now();
void yield();
// Sleeps in small steps until the condition holds; false when `limit` passed before.
bool wait_until(const std::function<bool()>& condition, std::chrono::nanoseconds limit);

// From now on no write to a file has room for its bytes (ENOSPC).
void set_disk_full(bool full);

// A fixed sequence for a seed, independent of the schedule.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  std::uint64_t next();
  std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : next() % limit; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + below(high - low + 1);
  }

 private:
  std::uint64_t state_;
};

// ---- for pthread_hooks.cc

bool is_disk_full();
bool in_simulation();                                // whether this thread is a simulated one
void* spawn(void* (*start)(void*), void* argument);  // registers; what run_spawned() takes
void* run_spawned(void* thread);
void forget_spawned(void* thread);  // it could not be started
void name_spawned(void* thread, unsigned long id);
bool wait_for_end(unsigned long id);  // false: not a simulated thread
void detach(unsigned long id);
// Waits until wake(address), or the clock reaches `deadline`; true: woken.
bool block(const void* address, std::chrono::nanoseconds deadline);
void wake(const void* address, bool all);
// This thread has one mutex more, or less.
void locked();
void unlocked();
void maybe_preempt();
void tick();  // reading the clock takes a moment

}  // namespace outboard::sim
