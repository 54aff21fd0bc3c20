// SPDX-License-Identifier: Apache-2.0
#include "wire/send_turns.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace outboard::wire {
namespace {

TEST(SendTurns, OneAtATime) {
  SendTurns turns;
  std::atomic<int> sending{0}, done{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) {
        SendTurns::Turn turn = turns.take({});
        EXPECT_EQ(sending.fetch_add(1), 0);
        std::this_thread::yield();
        sending.fetch_sub(1);
        ++done;
        if (n % 2 == 0) turn.end();  // else by destruction
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 800);
}

TEST(SendTurns, AreForRequestsThatTheLinkSlowsDownAndNotTheDelay) {
  using std::chrono::microseconds;
  const Path within{}, near{true, microseconds(100)}, far{true, microseconds(20'000)};
  EXPECT_FALSE(SendTurns::worth_waiting(600'000, within));
  EXPECT_TRUE(SendTurns::worth_waiting(16'000'000, within));
  EXPECT_FALSE(SendTurns::worth_waiting(100'000, near));
  EXPECT_TRUE(SendTurns::worth_waiting(600'000, near));
  EXPECT_FALSE(SendTurns::worth_waiting(600'000, far));
  EXPECT_TRUE(SendTurns::worth_waiting(16'000'000, far));
}

TEST(SendTurns, OneThatHangsHoldsNobodyUpForLong) {
  SendTurns turns;
  const SendTurns::Turn hanging = turns.take({});
  const Nanoseconds start = Clock::monotonic().now();
  const SendTurns::Turn next = turns.take({});
  EXPECT_GE(Clock::monotonic().now() - start, SendTurns::kMostWait);
}

TEST(SendTurns, AWaitEndsWhenItIsToStop) {
  SendTurns turns;
  const SendTurns::Turn hanging = turns.take({});
  std::atomic<bool> stop{false}, asked{false};
  std::thread waiting([&] {
    const SendTurns::Turn next = turns.take([&] {
      asked = true;
      return stop.load();
    });
    EXPECT_TRUE(stop);
  });
  while (!asked) std::this_thread::yield();
  stop = true;
  turns.wake();
  waiting.join();
}

}  // namespace
}  // namespace outboard::wire
