// SPDX-License-Identifier: Apache-2.0
#include "profile/run_cost.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace outboard::profile {
namespace {

TEST(RunCost, LocalIsQueueAndCompute) {
  const RunCost cost = local_cost({.compute_us = 900, .queue_us = 100});
  EXPECT_DOUBLE_EQ(1000, cost.total_us());
  EXPECT_DOUBLE_EQ(0, cost.send_us + cost.receive_us + cost.overhead_us);
}

// By hand: 602,112 bytes (1x3x224x224 floats) up at 100 Mbps are 48,169 us, 4,000 bytes down 320
// us.
TEST(RunCost, RemoteByHand) {
  const LinkPair link{.up = {.delay_us = 1000, .rate_bytes_per_s = 12.5e6},
                      .down = {.delay_us = 500, .rate_bytes_per_s = 12.5e6}};
  const RunCost cost = remote_cost({.compute_us = 20'000, .queue_us = 5'000}, link,
                                   {.request_bytes = 602'112, .reply_bytes = 4'000}, 40);
  EXPECT_DOUBLE_EQ(40, cost.overhead_us);
  EXPECT_NEAR(1000 + 48'168.96, cost.send_us, 1e-6);
  EXPECT_DOUBLE_EQ(5'000, cost.queue_us);
  EXPECT_DOUBLE_EQ(20'000, cost.compute_us);
  EXPECT_NEAR(500 + 320, cost.receive_us, 1e-6);
  EXPECT_NEAR(40 + 49'168.96 + 25'000 + 820, cost.total_us(), 1e-6);
}

TEST(RunCost, AnUnknownRateCostsTheDelayOnly) {
  EXPECT_DOUBLE_EQ(7, transfer_us({.delay_us = 7, .rate_bytes_per_s = 0}, 1u << 30));
}

RC_GTEST_PROP(RunCost, NeverLessForMoreBytesMoreDelayOrASlowerLink, ()) {
  const auto positive = [](int limit) { return static_cast<double>(*rc::gen::inRange(1, limit)); };
  const Engine server{.compute_us = positive(1'000'000), .queue_us = positive(1'000'000)};
  LinkPair link{
      .up = {.delay_us = positive(100'000), .rate_bytes_per_s = positive(1'000'000'000)},
      .down = {.delay_us = positive(100'000), .rate_bytes_per_s = positive(1'000'000'000)}};
  RunSize size{.request_bytes = *rc::gen::inRange<std::uint64_t>(0, 1u << 30),
               .reply_bytes = *rc::gen::inRange<std::uint64_t>(0, 1u << 30)};
  const double base = remote_cost(server, link, size, 30).total_us();
  RC_ASSERT(base >= server.compute_us + server.queue_us + link.up.delay_us + link.down.delay_us);
  switch (*rc::gen::inRange(0, 5)) {
    case 0:
      size.request_bytes += 1000;
      break;
    case 1:
      size.reply_bytes += 1000;
      break;
    case 2:
      link.up.delay_us += 1;
      break;
    case 3:
      link.down.rate_bytes_per_s /= 2;
      break;
    default:
      link.up.rate_bytes_per_s /= 2;
      break;
  }
  RC_ASSERT(remote_cost(server, link, size, 30).total_us() >= base);
}

TEST(QueueWait, FreeServersMeanNoWait) {
  EXPECT_DOUBLE_EQ(0, queue_wait_us(0, 1, 100));
  EXPECT_DOUBLE_EQ(0, queue_wait_us(3, 4, 100));
  EXPECT_DOUBLE_EQ(0, queue_wait_us(0, 0, 100));  // no servers is taken for one
}

TEST(QueueWait, OneServer) {
  EXPECT_DOUBLE_EQ(50, queue_wait_us(1, 1, 100));
  EXPECT_DOUBLE_EQ(150, queue_wait_us(2, 1, 100));
  EXPECT_DOUBLE_EQ(950, queue_wait_us(10, 1, 100));
}

// The formula against what it stands for: servers at random points of a constant service, the rest
// of the queue behind them.
TEST(QueueWait, AgreesWithSimulation) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> phase(0, 100);
  for (const std::uint32_t servers : {1u, 2u, 3u, 8u}) {
    for (const std::uint32_t ahead : {servers, servers + 1, 2 * servers, 5 * servers + 1}) {
      double sum = 0;
      constexpr int kRounds = 40'000;
      for (int round = 0; round < kRounds; ++round) {
        std::vector<double> free_at(servers);
        for (double& t : free_at) t = phase(random);
        for (std::uint32_t waiting = servers; waiting < ahead; ++waiting)
          *std::min_element(free_at.begin(), free_at.end()) += 100;
        sum += *std::min_element(free_at.begin(), free_at.end());
      }
      EXPECT_NEAR(sum / kRounds, queue_wait_us(ahead, servers, 100), 1.0)
          << ahead << " ahead, " << servers << " servers";
    }
  }
}

}  // namespace
}  // namespace outboard::profile
