// SPDX-License-Identifier: Apache-2.0
#include "serve/core_handover.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <future>
#include <thread>

namespace outboard::serve {
namespace {

cpu_set_t cores_of(pid_t thread) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  EXPECT_EQ(::sched_getaffinity(thread, sizeof cores, &cores), 0);
  return cores;
}

cpu_set_t only(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  return cores;
}

// A thread that waits as a request does in the queue.
class Sleeper {
 public:
  explicit Sleeper(cpu_set_t cores)
      : thread_([this, cores] {
          EXPECT_EQ(::sched_setaffinity(0, sizeof cores, &cores), 0);
          handover_.waits();
          waits_.set_value(::gettid());
          wake_.get_future().wait();
          handover_.woken();
          after_ = cores_of(0);
        }) {
    id_ = waits_.get_future().get();
  }
  CoreHandover& handover() { return handover_; }
  pid_t id() const { return id_; }
  cpu_set_t wake() {
    wake_.set_value();
    thread_.join();
    return after_;
  }

 private:
  CoreHandover handover_;
  std::promise<pid_t> waits_;
  std::promise<void> wake_;
  pid_t id_ = 0;
  cpu_set_t after_{};
  std::thread thread_;
};

// A thread of its own, because it binds itself.
void on_core(int core, const std::function<void()>& what) {
  std::thread([&] {
    const cpu_set_t here = only(core);
    ASSERT_EQ(::sched_setaffinity(0, sizeof here, &here), 0);
    what();
  }).join();
}

TEST(CoreHandover, TheSleeperWakesHereAndMayThenRunWhereItMight) {
  const cpu_set_t all = cores_of(0);
  const int core = ::sched_getcpu();
  Sleeper sleeper(all);
  on_core(core, [&] { sleeper.handover().give_this_core(); });
  const cpu_set_t here = only(core), meanwhile = cores_of(sleeper.id());
  EXPECT_TRUE(CPU_EQUAL(&meanwhile, &here));
  const cpu_set_t after = sleeper.wake();
  EXPECT_TRUE(CPU_EQUAL(&after, &all));
}

TEST(CoreHandover, ASleeperThatMayNotRunHereStaysWhereItIs) {
  const cpu_set_t all = cores_of(0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "one core: NOTHING OF THIS WAS TESTED";
  int first = 0;
  while (!CPU_ISSET(first, &all)) ++first;
  int second = first + 1;
  while (!CPU_ISSET(second, &all)) ++second;
  const cpu_set_t there = only(second);
  Sleeper sleeper(there);
  on_core(first, [&] { sleeper.handover().give_this_core(); });
  const cpu_set_t meanwhile = cores_of(sleeper.id());
  EXPECT_TRUE(CPU_EQUAL(&meanwhile, &there));
  const cpu_set_t after = sleeper.wake();
  EXPECT_TRUE(CPU_EQUAL(&after, &there));
}

}  // namespace
}  // namespace outboard::serve
