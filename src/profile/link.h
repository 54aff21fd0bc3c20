// SPDX-License-Identifier: Apache-2.0
// A network link as the models see it: a message of n bytes takes delay + n / rate, one way.
//
// Units: microseconds and bytes per second. Plain values and pure functions; thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"

namespace outboard::profile {

// One direction.
struct Link {
  double delay_us = 0;          // >= 0; what an empty message takes, both ends' software included
  double rate_bytes_per_s = 0;  // > 0; 0: not known, or no limit that was ever felt

  bool operator==(const Link&) const = default;
};

// There and back, seen from the client.
struct LinkPair {
  Link up;    // client to server
  Link down;  // server to client

  bool operator==(const LinkPair&) const = default;
};

// What a message of `size_bytes` takes, one way.
double transfer_us(const Link& link, std::uint64_t size_bytes);

// A message of `size_bytes` that was sent there and came back unchanged.
struct Echo {
  std::uint64_t size_bytes = 0;
  double round_trip_us = 0;
};

// The symmetric link that explains the echoes: round trip = 2 (delay + n / rate). Of each size the
// median counts, so that a few late echoes do not; the slope over the sizes is the median of the
// slopes of all pairs (Theil-Sen), the delay the median of what the slope leaves. A slope that is
// not positive (a link too fast to be felt at these sizes) gives rate 0.
// kInvalid: fewer than two sizes, or a time that is negative or not finite.
Result<Link> fit_echoes(std::span<const Echo> echoes);

// A bulk transfer: `size_bytes` that took `duration_us` from the first byte to the last.
struct Transfer {
  std::uint64_t size_bytes = 0;
  double duration_us = 0;
};

// The median rate of the transfers; those without bytes or without a duration do not count. 0 when
// none is left.
double median_rate_bytes_per_s(std::span<const Transfer> transfers);

}  // namespace outboard::profile
