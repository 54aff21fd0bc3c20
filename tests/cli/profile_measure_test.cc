// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_measure.h"

#include <gtest/gtest.h>

#include <chrono>

namespace outboard::cli {
namespace {

class FakeClock : public Clock {
 public:
  Nanoseconds now() const override { return now_; }
  Nanoseconds now_{0};
};

// Every Run takes 100 ms of the fake clock; `after` is called at its end with the number of Runs.
class FakeSubject : public Subject {
 public:
  explicit FakeSubject(FakeClock& clock) : clock_(clock) {}
  Result<RunTimes> run() override {
    ++runs;
    clock_.now_ += std::chrono::milliseconds(100);
    if (after) after(runs);
    if (runs == fails_at) return error(ErrorKind::kDisconnected, "the server is gone");
    RunTimes times;
    times.total_us = times.compute_us = runs;
    return times;
  }
  int runs = 0, fails_at = 0;
  std::function<void(int)> after;

 private:
  FakeClock& clock_;
};

struct Measure : testing::Test {
  FakeClock clock;
  FakeSubject subject{clock};
  std::atomic<bool> stop{false};
  MeasureOptions options{.warm_up_runs = 3, .duration_s = 2, .min_runs = 5, .max_runs = 1000};
};

TEST_F(Measure, WarmUpIsNotKeptAndTheDurationEndsIt) {
  const Measurement got = measure(subject, options, stop, clock);
  EXPECT_EQ(23, subject.runs);
  ASSERT_EQ(20u, got.runs.size());
  EXPECT_EQ(4, got.runs.front().total_us);  // the fourth Run is the first that counts
  EXPECT_FALSE(got.interrupted || got.failure);
}

TEST_F(Measure, AtLeastTheMinimumAndAtMostTheMaximum) {
  options.duration_s = 0.01;
  EXPECT_EQ(5u, measure(subject, options, stop, clock).runs.size());
  options.max_runs = 2;
  EXPECT_EQ(2u, measure(subject, options, stop, clock).runs.size());
}

TEST_F(Measure, AnInterruptKeepsWhatIsThere) {
  subject.after = [&](int runs) { stop = runs == 9; };
  const Measurement got = measure(subject, options, stop, clock);
  EXPECT_TRUE(got.interrupted);
  EXPECT_EQ(6u, got.runs.size());
  EXPECT_FALSE(got.failure);
}

TEST_F(Measure, AnInterruptDuringTheWarmUpMeasuresNothing) {
  stop = true;
  const Measurement got = measure(subject, options, stop, clock);
  EXPECT_TRUE(got.interrupted);
  EXPECT_EQ(0, subject.runs);
}

TEST_F(Measure, AFailureKeepsWhatIsThere) {
  subject.fails_at = 10;
  const Measurement got = measure(subject, options, stop, clock);
  ASSERT_TRUE(got.failure);
  EXPECT_EQ(ErrorKind::kDisconnected, got.failure->kind);
  EXPECT_EQ(6u, got.runs.size());
}

TEST_F(Measure, AFailureOfTheFirstRunSaysSo) {
  subject.fails_at = 1;
  const Measurement got = measure(subject, options, stop, clock);
  ASSERT_TRUE(got.failure);
  EXPECT_EQ("the server is gone, while running it for the first time", got.failure->message);
}

TEST_F(Measure, ProgressSeesEveryRunAndTheSecondsSinceTheWarmUp) {
  int calls = 0;
  double last_s = -1;
  measure(subject, options, stop, clock, [&](const Measurement& so_far, double elapsed_s) {
    EXPECT_EQ(static_cast<std::size_t>(++calls), so_far.runs.size());
    last_s = elapsed_s;
  });
  EXPECT_EQ(20, calls);
  EXPECT_NEAR(1.9, last_s, 1e-9);
}

TEST(ResidentBytes, SeesWhatIsTouched) {
  const std::uint64_t before = trimmed_resident_bytes();
  ASSERT_GT(before, 0u);
  const std::vector<char> touched(64u << 20, 1);
  EXPECT_GE(trimmed_resident_bytes() + touched.front(), before + (60u << 20));
}

}  // namespace
}  // namespace outboard::cli
