// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/link_estimate.h"

#include <algorithm>

#include "profile/run_cost.h"

namespace outboard::intercept {
namespace {

// 10 GB/s: faster is not felt, and a transfer that came in one piece has no duration.
constexpr double kLeastUsPerByte = 1e-4;

double rate_of(const Level& us_per_byte) {
  return us_per_byte.count() == 0 ? 0 : 1e6 / us_per_byte.value();
}

}  // namespace

void LinkEstimate::exchanged(const Exchange& e) {
  const std::lock_guard lock(mutex_);
  // There and back, less what the request's bytes took and what the server did.
  const double both_ways_us = e.until_reply_us - e.server_receive_us - e.server_busy_us;
  delay_us_.add(std::max(both_ways_us / 2, 1.0));
  if (e.sent_bytes >= kRateBytes)
    up_us_per_byte_.add(
        std::max(e.server_receive_us / static_cast<double>(e.sent_bytes), kLeastUsPerByte));
  if (e.received_bytes >= kRateBytes)
    down_us_per_byte_.add(
        std::max(e.receive_us / static_cast<double>(e.received_bytes), kLeastUsPerByte));
}

void LinkEstimate::waits(double wait_us) {
  const std::lock_guard lock(mutex_);
  wait_us_ = wait_us;
}

void LinkEstimate::fell(bool up, double us_per_byte) {
  const std::lock_guard lock(mutex_);
  Level& level = up ? up_us_per_byte_ : down_us_per_byte_;
  if (level.count() > 0 && us_per_byte < 2 * level.value()) return;
  level.begin_again(us_per_byte);
  ++falls_;
}

LinkView LinkEstimate::view() const {
  const std::lock_guard lock(mutex_);
  LinkView view;
  view.link.up = {delay_us_.value(), rate_of(up_us_per_byte_)};
  view.link.down = {delay_us_.value(), rate_of(down_us_per_byte_)};
  view.wait_us = wait_us_;
  view.is_known = delay_us_.count() > 0;
  view.falls = falls_;
  return view;
}

double beyond_compute_us(const LinkView& view, std::uint64_t request_bytes,
                         std::uint64_t reply_bytes) {
  return profile::remote_cost({.queue_us = view.wait_us}, view.link, {request_bytes, reply_bytes},
                              0)
      .total_us();
}

}  // namespace outboard::intercept
