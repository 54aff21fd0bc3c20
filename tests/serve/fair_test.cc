// SPDX-License-Identifier: Apache-2.0
// The promise of docs/security.md on a live server: its threads, its queue, its protocol, real
// time. The device computes one Run at a time and cannot be interrupted; each takes as long as its
// model says. A tenant asks as a Poisson process does, first alone and then beside a flood.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <random>
#include <thread>

#include "base/clock.h"
#include "tests/serve/support.h"

namespace outboard::serve {
namespace {

using namespace std::chrono_literals;

struct Case {
  int service_ms;  // of the tenant that asks
  double load;     // of the device, by it alone
  std::vector<int> flood_ms;
};

class Fairness : public testing::Test {
 protected:
  static constexpr int kFlooders = 16, kCallers = 8;
  // A Run that sleeps takes hardly longer than it says; on a busy machine services are longer than
  // a case's, and the tenant may ask for more than its share.
  static constexpr double kQuietMs = 10;

  std::unique_ptr<RawClient> client_of(const std::string& tenant, int service_ms) {
    auto who = server_.server->tenants().get({tenant, 1, {}});
    EXPECT_TRUE(who) << who.error().message;
    auto [here, there] = wire::make_stream_pair();
    server_.server->serve(std::move(there), **who);
    auto client = std::make_unique<RawClient>(std::move(here));
    client->hello();
    const std::string word = "sleep" + std::to_string(service_ms);
    client->upload({{"model", word}});
    const auto opened = client->open(1, {{"model", word}});
    EXPECT_TRUE(opened) << opened.error().message;
    return client;
  }

  static void run(RawClient& client) {
    const auto answer = client.ask(wire::FrameKind::kRun, RawClient::run(1, {1}));
    EXPECT_TRUE(answer) << answer.error().message;
  }

  void began_late(Nanoseconds by) {
    std::int64_t most = late_ns_;
    while (by.count() > most && !late_ns_.compare_exchange_weak(most, by.count())) {
    }
  }

  // Response times from the moment at which a request was due, so that one that finds no caller
  // free waits, too. The same arrivals for the same seed.
  double p95_ms(const Case& c, int requests) {
    std::mt19937_64 random(7);
    std::exponential_distribution<double> gap_s(c.load * 1e3 / c.service_ms);
    std::vector<Nanoseconds> due;
    Nanoseconds at = Clock::monotonic().now() + 20ms;
    for (int i = 0; i < requests; ++i) {
      due.push_back(at);
      at += std::chrono::duration_cast<Nanoseconds>(std::chrono::duration<double>(gap_s(random)));
    }
    std::vector<double> response_ms(due.size());
    std::atomic<std::size_t> next{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < kCallers; ++i)
      callers.emplace_back([&] {
        const auto client = client_of("asks", c.service_ms);
        for (std::size_t mine; (mine = next++) < due.size();) {
          const Nanoseconds wait = due[mine] - Clock::monotonic().now();
          std::this_thread::sleep_for(wait);
          if (wait > Nanoseconds::zero()) began_late(Clock::monotonic().now() - due[mine]);
          run(*client);
          response_ms[mine] =
              std::chrono::duration<double, std::milli>(Clock::monotonic().now() - due[mine])
                  .count();
        }
      });
    for (std::thread& caller : callers) caller.join();
    std::sort(response_ms.begin(), response_ms.end());
    return response_ms[response_ms.size() * 95 / 100];
  }

  void play(const Case& c, int requests) {
    const double alone = p95_ms(c, requests);
    std::atomic<bool> flooding{true};
    std::atomic<int> flood{0};
    std::vector<std::thread> flooders;
    for (int i = 0; i < kFlooders; ++i)
      flooders.emplace_back([&, i] {
        const auto client =
            client_of("floods", c.flood_ms[static_cast<std::size_t>(i) % c.flood_ms.size()]);
        for (; flooding; ++flood) run(*client);
      });
    while (server_.server->shared().queue.depth() < kFlooders) std::this_thread::yield();
    const double with = p95_ms(c, requests);
    flooding = false;
    for (std::thread& flooder : flooders) flooder.join();
    const int longest_ms = *std::max_element(c.flood_ms.begin(), c.flood_ms.end());
    // What the machine added to a Run that only sleeps and to a caller's sleep before it: none of
    // the queue's doing.
    const double noise_ms = static_cast<double>(server_.stage->overslept_ns + late_ns_) / 1e6;
    std::printf(
        "    service %d ms, load %.2f: p95 alone %.1f ms, beside %d threads that flood with up to "
        "%d ms %.1f ms (%d of the flood's Runs; a Run and its call were up to %.1f ms too late)\n",
        c.service_ms, c.load, alone, kFlooders, longest_ms, with, flood.load(), noise_ms);
    if (noise_ms <= kQuietMs) {
      EXPECT_LE(with, alone + longest_ms + noise_ms);
    } else {
      std::printf("    NOT ASSERTED: the machine is too busy for a time to mean anything\n");
    }
    EXPECT_GT(flood, 0) << "what is left is the flood's";
  }

  FakeServer server_{{.slots = 1}};
  std::atomic<std::int64_t> late_ns_{0};
};

TEST_F(Fairness, LongServicesOfAFlood) { play({5, 0.1, {50}}, 60); }
TEST_F(Fairness, MixedServicesOfAFlood) { play({10, 0.2, {2, 20, 40}}, 80); }
TEST_F(Fairness, ShortServicesOfAFlood) { play({10, 0.3, {1}}, 100); }

}  // namespace
}  // namespace outboard::serve
