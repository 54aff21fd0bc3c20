// SPDX-License-Identifier: Apache-2.0
// The simulation itself: time costs nothing, a seed is an execution, and what hangs is told.
#include "tests/faults/sim/scheduler.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace outboard::sim {
namespace {

using namespace std::chrono_literals;

TEST(Scheduler, AnHourTakesNoTime) {
  const auto really = std::chrono::steady_clock::now();
  std::chrono::nanoseconds waited{}, slept{};
  bool notified = true;
  simulate({.seed = 1, .time_limit = 10h}, [&] {
    std::mutex mutex;
    std::condition_variable changed;
    std::unique_lock lock(mutex);
    const auto start = std::chrono::steady_clock::now();
    notified = changed.wait_for(lock, 1h, [] { return false; });
    waited = std::chrono::steady_clock::now() - start;
    std::this_thread::sleep_for(1h);
    slept = std::chrono::steady_clock::now() - start;
  });
  EXPECT_FALSE(notified);
  EXPECT_NEAR(std::chrono::duration<double>(waited).count(), 3600, 0.001);
  EXPECT_NEAR(std::chrono::duration<double>(slept).count(), 7200, 0.001);
  EXPECT_LT(std::chrono::steady_clock::now() - really, 5s);
}

// The order in which some threads get a lock that they all want.
std::vector<int> order(std::uint64_t seed) {
  std::vector<int> taken;
  simulate({.seed = seed, .preempt_one_in = 4}, [&] {
    std::mutex mutex;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&, i] {
        for (int k = 0; k < 8; ++k) {
          const std::lock_guard lock(mutex);
          taken.push_back(i);
          std::this_thread::sleep_for(1ms);
        }
      });
    for (std::thread& thread : threads) thread.join();
  });
  return taken;
}

TEST(Scheduler, ASeedIsAnExecution) {
  const auto one = order(1);
  EXPECT_EQ(one.size(), 32u);
  EXPECT_EQ(one, order(1));
  EXPECT_NE(one, order(2));
}

TEST(Scheduler, AFrozenGroupStandsStillAndGoesOn) {
  simulate({.seed = 3}, [] {
    int steps = 0;
    std::thread worker;
    as_group(5, [&] {
      worker = std::thread([&] {
        for (; steps < 100; ++steps) std::this_thread::sleep_for(10ms);
      });
    });
    std::this_thread::sleep_for(200ms);
    freeze(5);
    const int before = steps;
    EXPECT_GT(before, 10);
    std::this_thread::sleep_for(10s);
    EXPECT_EQ(steps, before);
    thaw(5);
    worker.join();
    EXPECT_EQ(steps, 100);
    EXPECT_EQ(threads_of(5), 0u);
  });
}

TEST(SchedulerDeathTest, WhatCanNeverGoOnIsTold) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(simulate({.seed = 9},
                        [] {
                          std::mutex mutex;
                          std::condition_variable never;
                          std::unique_lock lock(mutex);
                          never.wait(lock, [] { return false; });
                        }),
               "seed 9: nobody can go on");
}

}  // namespace
}  // namespace outboard::sim
