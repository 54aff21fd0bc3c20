// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_together.h"

#include <gtest/gtest.h>

#include <chrono>
#include <mutex>

namespace outboard::cli {
namespace {

// Every reading is a millisecond later.
class TickingClock : public Clock {
 public:
  Nanoseconds now() const override { return std::chrono::milliseconds(++ticks_); }

 private:
  mutable std::atomic<int> ticks_{0};
};

// A device that remembers whose Run was the last.
struct Device {
  std::mutex mutex;
  const void* last = nullptr;
};

class FakeModel : public Subject {
 public:
  FakeModel(Device& device, double alone_us, double swap_us)
      : device_(device), alone_us_(alone_us), swap_us_(swap_us) {}
  Result<RunTimes> run() override {
    const std::lock_guard lock(device_.mutex);
    if (++runs == fails_at) return error(ErrorKind::kEngine, "out of memory");
    if (after) after(runs);
    RunTimes times;
    times.compute_us = alone_us_ + (device_.last == this ? 0 : swap_us_);
    device_.last = this;
    return times;
  }
  int runs = 0, fails_at = 0;
  std::function<void(int)> after;

 private:
  Device& device_;
  double alone_us_, swap_us_;
};

struct MeasureTogether : testing::Test {
  Device device;
  FakeModel a{device, 1000, 300}, b{device, 5000, 0};
  Subject* subjects[2] = {&a, &b};
  TickingClock clock;
  std::atomic<bool> stop{false};
};

TEST_F(MeasureTogether, TheSwapIsWhatAChangeOfModelCosts) {
  const Together got =
      measure_together(subjects, {.duration_s = 0.2, .min_rounds = 4}, stop, clock);
  EXPECT_FALSE(got.interrupted || got.failure);
  EXPECT_EQ(got.models[0].swap_us(), 300);
  EXPECT_EQ(got.models[1].swap_us(), 0);
  EXPECT_GE(got.models[0].after_own_us.size(), 3U);
  EXPECT_FALSE(got.models[0].at_once_us.empty() && got.models[1].at_once_us.empty());
}

TEST_F(MeasureTogether, AnInterruptKeepsTheRoundsThatAreThere) {
  a.after = [&](int runs) { stop = runs >= 6; };
  const Together got =
      measure_together(subjects, {.duration_s = 1e6, .min_rounds = 99}, stop, clock);
  EXPECT_TRUE(got.interrupted);
  EXPECT_EQ(got.models[0].after_own_us.size(), 2U);
  EXPECT_EQ(got.models[0].swap_us(), 300);
}

TEST_F(MeasureTogether, AFailureKeepsTheRoundsThatAreThere) {
  b.fails_at = 6;
  const Together got =
      measure_together(subjects, {.duration_s = 1e6, .min_rounds = 99}, stop, clock);
  ASSERT_TRUE(got.failure);
  EXPECT_EQ(got.failure->message, "out of memory, while running the models in turn");
  EXPECT_EQ(got.models[1].after_own_us.size(), 1U);
}

TEST(TogetherTimes, SlowDownIsWhatFairSharingDoesNotExplain) {
  TogetherTimes times{{}, {100, 100, 100}, {240, 240, 240}};
  EXPECT_NEAR(times.slow_down_per_other(2), 1.2, 1e-9);
  times.at_once_us = {363, 363, 363};
  EXPECT_NEAR(times.slow_down_per_other(3), 1.1, 1e-9);
  times.at_once_us = {110};  // served one after the other
  EXPECT_EQ(times.slow_down_per_other(2), 1);
  EXPECT_EQ(TogetherTimes{}.slow_down_per_other(2), 1);
}

}  // namespace
}  // namespace outboard::cli
