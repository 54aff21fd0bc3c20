// SPDX-License-Identifier: Apache-2.0
#include "split/exec/links.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace outboard::split::exec {

Result<profile::Link> measure_link(wire::Client& client) {
  std::vector<double> trips;
  for (int i = 0; i < 15; ++i) {
    OB_TRY(const auto trip, client.ping(16));
    if (i > 2) trips.push_back(std::chrono::duration<double, std::micro>(trip).count());
  }
  std::sort(trips.begin(), trips.end());
  profile::Link link;
  link.delay_us = trips[trips.size() / 4] / 2;

  OB_TRY(const auto connection, client.dedicate());
  const std::string payload(64u << 10, 'x');
  constexpr int kPings = 256, kBurst = 16;  // 16 MiB each way, and 1
  constexpr std::chrono::milliseconds kLongEnough{100};
  std::atomic<bool> enough{false};
  std::atomic<int> sent{0};
  std::thread sender([&] {
    for (int i = 0; i < kPings && !enough; ++i) {
      if (!connection->send(
              {.kind = wire::FrameKind::kPing, .request_id = static_cast<std::uint64_t>(i) + 1},
              payload))
        break;
      ++sent;
    }
    enough = true;
  });
  const Nanoseconds begin = Clock::monotonic().now();
  Nanoseconds first{}, last{};
  int got = 0;
  Result<void> failed;
  while (got < kPings && !(enough && got >= sent)) {
    auto header = connection->receive_header();
    if (header && header->kind == wire::FrameKind::kPong) {
      failed = connection->skip(header->length);
      last = Clock::monotonic().now();
      // What a shaper lets pass in one burst comes first.
      if (++got == kBurst) first = last;
      if (got >= 2 * kBurst && last - first >= kLongEnough) enough = true;
    } else if (header) {
      failed = connection->skip(header->length);
    } else {
      failed = tl::make_unexpected(std::move(header).error());
    }
    if (!failed) break;
    if (Clock::monotonic().now() - begin > std::chrono::milliseconds(1500)) enough = true;
  }
  enough = true;
  if (!failed) connection->stream().shut_down();
  sender.join();
  if (!failed) return tl::make_unexpected(std::move(failed).error());
  const double seconds = std::chrono::duration<double>(last - first).count();
  if (got > kBurst && seconds > 0)
    link.rate_bytes_per_s = (got - kBurst) * static_cast<double>(payload.size()) / seconds;
  return link;
}

}  // namespace outboard::split::exec
