// SPDX-License-Identifier: Apache-2.0
// What is known of the way to one server and of what waits there, from Runs and from probes.
//
// Pure but for its lock: times are given. Thread-safe. Belongs to a ServerLink; all sessions share
// it.
#pragma once

#include <cstdint>
#include <mutex>

#include "intercept/common/level.h"
#include "profile/link.h"

namespace outboard::intercept {

// One exchange with a server, a Run or a probe; microseconds and bytes.
struct Exchange {
  std::uint64_t sent_bytes = 0, received_bytes = 0;
  double until_reply_us = 0;     // from the start of sending to the reply's first byte
  double receive_us = 0;         // the reply's bytes
  double server_receive_us = 0;  // there: first to last byte of the request
  double server_busy_us = 0;     // there: queue and compute
};

// A copy at one moment.
struct LinkView {
  profile::LinkPair link;
  double wait_us = 0;  // that a Run which comes now has before it, as the server says
  bool is_known = false;
  std::uint64_t falls = 0;  // how often fell() was believed
};

class LinkEstimate {
 public:
  // Bytes below which a transfer says nothing of the rate: what a shaper lets through at once, and
  // what a network card hands over in one piece.
  static constexpr std::uint64_t kRateBytes = 12'000;

  void exchanged(const Exchange& exchange);
  void waits(double wait_us);
  // Bytes of a Run under way, which is late, move so slowly, up or down. Believed at once where
  // that is half of the rate that is known, or less: a Run that starts now would find the same.
  void fell(bool up, double us_per_byte);
  LinkView view() const;

 private:
  mutable std::mutex mutex_;
  Level delay_us_;  // one way, both ends' software included
  Level up_us_per_byte_, down_us_per_byte_;
  double wait_us_ = 0;
  std::uint64_t falls_ = 0;
};

// What a Run of this size takes beyond its computing: the link's share and the wait in the server's
// queue behind others. The cost model is profile/run_cost.h's.
double beyond_compute_us(const LinkView& view, std::uint64_t request_bytes,
                         std::uint64_t reply_bytes);

}  // namespace outboard::intercept
