// SPDX-License-Identifier: Apache-2.0
// The promise of docs/security.md on a live server: its threads, its queue, its protocol. The
// device computes one Run at a time and cannot be interrupted; the time that it takes is not the
// machine's but the test's, which moves it on when all that can happen by then has happened. So
// what is measured is the server's doing alone, the same on every machine. A tenant asks as a
// Poisson process does, first alone and then beside a flood.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "tests/serve/support.h"

namespace outboard::serve {
namespace {

using std::chrono::milliseconds;

class DeviceClock final : public Clock {
 public:
  Nanoseconds now() const override { return Nanoseconds(now_ns_.load()); }
  void set(Nanoseconds now) { now_ns_ = now.count(); }

 private:
  std::atomic<std::int64_t> now_ns_{std::chrono::nanoseconds(std::chrono::hours(1)).count()};
};

struct Case {
  int service_ms;  // of the tenant that asks
  double load;     // of the device, by it alone
  std::vector<int> flood_ms;
};

class Fairness : public testing::Test {
 protected:
  static constexpr std::size_t kFlooders = 16, kCallers = 8;
  static constexpr std::size_t kRequests = 400;

  struct Caller {
    std::unique_ptr<RawClient> client;
    Nanoseconds service{};
    bool floods = false, is_free = true;
    Nanoseconds due{};  // of the request that it has under way
  };

  void add(const std::string& tenant, int service_ms, bool floods) {
    auto who = server_.server->tenants().get({tenant, 1, {}});
    ASSERT_TRUE(who) << who.error().message;
    auto [here, there] = wire::make_stream_pair();
    server_.server->serve(std::move(there), **who);
    auto client = std::make_unique<RawClient>(std::move(here));
    client->hello();
    client->upload({{"model", "block"}});
    ASSERT_TRUE(client->open(1, {{"model", "block"}}));
    callers_.push_back({std::move(client), milliseconds(service_ms), floods});
  }

  void wait_for_depth() const {
    while (server_.server->shared().queue.depth() != depth_) std::this_thread::yield();
  }
  // Once the device has begun with whoever is next, if anybody is.
  void look_at_device() {
    computing_.reset();
    if (depth_ == 0) return;
    server_.stage->wait_for_running(1);
    const std::lock_guard lock(server_.stage->mutex);
    computing_ = static_cast<std::size_t>(server_.stage->latest);
    ends_ = clock_.now() + callers_[*computing_].service;
  }
  void ask(std::size_t who, Nanoseconds due) {
    Caller& caller = callers_[who];
    caller.is_free = false;
    caller.due = due;
    caller.client->send(wire::FrameKind::kRun, RawClient::run(1, {static_cast<float>(who)}));
    ++depth_;
    wait_for_depth();
    if (!computing_) look_at_device();
  }
  // The end of the Run that computes; whose it was.
  std::size_t finish() {
    const std::size_t who = *computing_;
    clock_.set(ends_);
    server_.stage->release(1);
    const auto answer = callers_[who].client->receive();
    EXPECT_TRUE(answer) << answer.error().message;
    callers_[who].is_free = true;
    --depth_;
    wait_for_depth();
    look_at_device();
    return who;
  }

  // Response times count from the moment at which a request was due, so that one that finds no
  // caller free waits, too. The same arrivals each time.
  double p95_ms(const Case& c) {
    std::mt19937_64 random(7);
    std::exponential_distribution<double> gap_ms(c.load / c.service_ms);
    std::deque<Nanoseconds> due;
    Nanoseconds at = clock_.now();
    for (std::size_t i = 0; i < kRequests; ++i) {
      at += Nanoseconds(static_cast<std::int64_t>(gap_ms(random) * 1e6));
      due.push_back(at);
    }
    std::vector<double> took_ms;
    while (took_ms.size() < kRequests) {
      const auto caller = std::ranges::find_if(
          callers_, [](const Caller& one) { return !one.floods && one.is_free; });
      const bool may_ask = !due.empty() && caller != callers_.end();
      if (may_ask && (!computing_ || due.front() < ends_)) {
        clock_.set(std::max(clock_.now(), due.front()));
        ask(static_cast<std::size_t>(caller - callers_.begin()), due.front());
        due.pop_front();
        continue;
      }
      const std::size_t who = finish();
      if (callers_[who].floods) {
        ++flooded_;
        ask(who, clock_.now());
      } else {
        took_ms.push_back(
            std::chrono::duration<double, std::milli>(clock_.now() - callers_[who].due).count());
      }
    }
    std::ranges::sort(took_ms);
    return took_ms[took_ms.size() * 95 / 100];
  }

  void play(const Case& c) {
    for (std::size_t i = 0; i < kCallers; ++i) add("asks", c.service_ms, false);
    const double alone = p95_ms(c);
    for (std::size_t i = 0; i < kFlooders; ++i) {
      add("floods", c.flood_ms[i % c.flood_ms.size()], true);
      ask(callers_.size() - 1, clock_.now());
    }
    const double beside = p95_ms(c);
    const int longest_ms = std::ranges::max(c.flood_ms);
    std::printf(
        "    service %d ms, load %.2f: p95 alone %.1f ms, beside %zu callers without pause of up "
        "to %d ms %.1f ms (%zu Runs of the flood)\n",
        c.service_ms, c.load, alone, kFlooders, longest_ms, beside, flooded_);
    EXPECT_LE(beside, alone + longest_ms);
    EXPECT_GT(flooded_, 0u) << "what is left is the flood's";
    server_.stage->release(kFlooders);
    for (Caller& caller : callers_) {
      if (caller.is_free) continue;
      EXPECT_TRUE(caller.client->receive());
    }
  }

  DeviceClock clock_;
  FakeServer server_{{.slots = 1, .device_clock = &clock_}};
  std::vector<Caller> callers_;
  std::uint32_t depth_ = 0;
  std::optional<std::size_t> computing_;
  Nanoseconds ends_{};
  std::size_t flooded_ = 0;
};

TEST_F(Fairness, LongServicesOfAFlood) { play({5, 0.1, {50}}); }
TEST_F(Fairness, MixedServicesOfAFlood) { play({10, 0.2, {2, 20, 40}}); }
TEST_F(Fairness, ShortServicesOfAFlood) { play({10, 0.3, {1}}); }

}  // namespace
}  // namespace outboard::serve
