// SPDX-License-Identifier: Apache-2.0
// The pthread functions that C++'s threads, mutexes and condition variables rest on, defined in the
// executable and so taken before the C library's. A thread that is not simulated gets the C
// library's. Mutexes stay real ones (nobody else runs, so a lock is a trylock); condition variables
// are addresses to the scheduler.
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>

#include "tests/faults/sim/scheduler.h"

namespace {

namespace sim = outboard::sim;
using std::chrono::nanoseconds;

template <typename Function>
Function* real(Function*, const char* name, const char* version = nullptr) {
  void* found = version == nullptr ? ::dlsym(RTLD_NEXT, name) : ::dlvsym(RTLD_NEXT, name, version);
  return reinterpret_cast<Function*>(found);
}
// The C library's function of the same name, looked up once. (No static with a guard: its lock is
// a mutex.)
#define REAL(name)                                      \
  ([] {                                                 \
    static decltype(&::name) found;                     \
    if (found == nullptr) found = real(&::name, #name); \
    return found;                                       \
  }())
#define REAL_VERSION(name, version)                              \
  ([] {                                                          \
    static decltype(&::name) found;                              \
    if (found == nullptr) found = real(&::name, #name, version); \
    return found;                                                \
  }())

nanoseconds to_nanoseconds(const timespec& time) {
  return std::chrono::seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
}

timespec to_timespec(nanoseconds time) {
  return {.tv_sec = static_cast<time_t>(time.count() / 1'000'000'000),
          .tv_nsec = time.count() % 1'000'000'000};
}

int wait_on(pthread_cond_t* condition, pthread_mutex_t* mutex, nanoseconds deadline) {
  pthread_mutex_unlock(mutex);
  const bool woken = sim::block(condition, deadline);
  pthread_mutex_lock(mutex);
  return woken ? 0 : ETIMEDOUT;
}

const char sleeping = 0;

}  // namespace

#pragma GCC visibility push(default)  // the C++ library must find them, too
extern "C" {

int pthread_create(pthread_t* id, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) {
  if (!sim::in_simulation()) return REAL(pthread_create)(id, attributes, start, argument);
  void* thread = sim::spawn(start, argument);
  const int code = REAL(pthread_create)(id, attributes, &sim::run_spawned, thread);
  if (code != 0) {
    sim::forget_spawned(thread);
  } else {
    sim::name_spawned(thread, *id);
  }
  return code;
}

int pthread_join(pthread_t id, void** result) {
  if (sim::in_simulation()) sim::wait_for_end(id);
  return REAL(pthread_join)(id, result);
}

int pthread_detach(pthread_t id) noexcept {
  if (sim::in_simulation()) sim::detach(id);
  return REAL(pthread_detach)(id);
}

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  if (!sim::in_simulation()) return REAL(pthread_mutex_lock)(mutex);
  sim::maybe_preempt();
  for (;;) {
    const int code = REAL(pthread_mutex_trylock)(mutex);
    if (code == 0) sim::locked();
    if (code != EBUSY) return code;
    sim::block(mutex, nanoseconds::max());
  }
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  const int code = REAL(pthread_mutex_unlock)(mutex);
  if (!sim::in_simulation()) return code;
  sim::unlocked();
  sim::wake(mutex, true);
  return code;
}

int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  const int code = REAL(pthread_mutex_trylock)(mutex);
  if (code == 0 && sim::in_simulation()) sim::locked();
  return code;
}

int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  if (!sim::in_simulation())
    return REAL_VERSION(pthread_cond_wait, "GLIBC_2.3.2")(condition, mutex);
  return wait_on(condition, mutex, nanoseconds::max());
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           const timespec* deadline) {
  if (!sim::in_simulation())
    return REAL_VERSION(pthread_cond_timedwait, "GLIBC_2.3.2")(condition, mutex, deadline);
  return wait_on(condition, mutex, to_nanoseconds(*deadline));
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* deadline) {
  if (!sim::in_simulation()) return REAL(pthread_cond_clockwait)(condition, mutex, clock, deadline);
  return wait_on(condition, mutex, to_nanoseconds(*deadline));
}

int pthread_cond_signal(pthread_cond_t* condition) noexcept {
  if (!sim::in_simulation()) return REAL_VERSION(pthread_cond_signal, "GLIBC_2.3.2")(condition);
  sim::wake(condition, false);
  return 0;
}

int pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  if (!sim::in_simulation()) return REAL_VERSION(pthread_cond_broadcast, "GLIBC_2.3.2")(condition);
  sim::wake(condition, true);
  return 0;
}

// Both clocks are the simulation's: a wait may name either.
int clock_gettime(clockid_t clock, timespec* time) noexcept {
  if (!sim::in_simulation()) return REAL(clock_gettime)(clock, time);
  sim::tick();
  *time = to_timespec(sim::now());
  return 0;
}

int nanosleep(const timespec* time, timespec* left) {
  if (!sim::in_simulation()) return REAL(nanosleep)(time, left);
  sim::block(&sleeping, sim::now() + to_nanoseconds(*time));
  return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const timespec* time, timespec* left) {
  if (!sim::in_simulation()) return REAL(clock_nanosleep)(clock, flags, time, left);
  const nanoseconds until = to_nanoseconds(*time);
  sim::block(&sleeping, (flags & TIMER_ABSTIME) != 0 ? until : sim::now() + until);
  return 0;
}

ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) {
  if (!sim::in_simulation() || !sim::is_disk_full()) return REAL(pwrite)(file, bytes, size, offset);
  errno = ENOSPC;
  return -1;
}

int sched_yield() noexcept {
  if (!sim::in_simulation()) return REAL(sched_yield)();
  sim::yield();
  return 0;
}

}  // extern "C"
#pragma GCC visibility pop
