// SPDX-License-Identifier: Apache-2.0
#include "serve/device_queue.h"

#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <thread>
#include <vector>

namespace outboard::serve {
namespace {

using Ticket = DeviceQueue::Ticket;

// Waits, without sleeping, until so many hold or await the device.
void wait_for_depth(const DeviceQueue& queue, std::uint32_t depth) {
  while (queue.depth() != depth) std::this_thread::yield();
}

TEST(DeviceQueue, AsManyAsSlotsHoldIt) {
  DeviceQueue queue(2);
  FairFlow flow;
  Ticket a, b;
  {
    const auto first = queue.acquire(a, flow), second = queue.acquire(b, flow);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(queue.depth(), 2u);
  }
  EXPECT_EQ(queue.depth(), 0u);
}

TEST(DeviceQueue, FirstComeFirstServed) {
  DeviceQueue queue(1);
  FairFlow flow;
  Ticket own;
  std::optional held(queue.acquire(own, flow));
  std::vector<int> order;
  std::vector<std::thread> threads;
  std::vector<Ticket> tickets(8);
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const auto slot = queue.acquire(tickets[static_cast<std::size_t>(i)], flow);
      ASSERT_TRUE(slot);
      order.push_back(i);  // the slot is the lock
    });
    wait_for_depth(queue, static_cast<std::uint32_t>(i) + 2);
  }
  held.reset();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(DeviceQueue, CancelReachesWhoWaitsAndTheQueueGoesOn) {
  DeviceQueue queue(1);
  FairFlow flow;
  Ticket own, cancelled, next;
  std::optional held(queue.acquire(own, flow));
  auto first = std::async(std::launch::async, [&] {
    const auto slot = queue.acquire(cancelled, flow);
    return slot ? std::optional<ErrorKind>() : slot.error().kind;
  });
  wait_for_depth(queue, 2);
  auto second =
      std::async(std::launch::async, [&] { return queue.acquire(next, flow).has_value(); });
  wait_for_depth(queue, 3);
  queue.cancel(cancelled);
  EXPECT_EQ(first.get(), ErrorKind::kCancelled);
  held.reset();
  EXPECT_TRUE(second.get());
  EXPECT_EQ(queue.depth(), 0u);
}

TEST(DeviceQueue, ACancelThatComesFirstIsNotLost) {
  DeviceQueue queue(1);
  FairFlow flow;
  Ticket ticket;
  queue.cancel(ticket);
  EXPECT_EQ(queue.acquire(ticket, flow).error().kind, ErrorKind::kCancelled);
  EXPECT_EQ(queue.depth(), 0u);
  queue.reset(ticket);
  EXPECT_TRUE(queue.acquire(ticket, flow));
}

TEST(DeviceQueue, ADeadlineEndsTheWait) {
  DeviceQueue queue(1);
  FairFlow flow;
  Ticket own, late;
  const auto held = queue.acquire(own, flow);
  const auto slot = queue.acquire(late, flow, Deadline::in(std::chrono::milliseconds(1)));
  ASSERT_FALSE(slot);
  EXPECT_EQ(slot.error().kind, ErrorKind::kTimeout);
  EXPECT_EQ(queue.depth(), 1u);
}

TEST(DeviceQueue, NeverMoreThanTheSlotsUnderLoad) {
  DeviceQueue queue(3);
  FairFlow flow;
  std::atomic<int> inside{0}, most{0}, done{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      Ticket ticket;
      for (int i = 0; i < 500; ++i) {
        const auto slot = queue.acquire(ticket, flow);
        const int now = ++inside;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        ++done;
        --inside;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 8 * 500);
  EXPECT_LE(most, 3);
  EXPECT_EQ(queue.depth(), 0u);
}

}  // namespace
}  // namespace outboard::serve
