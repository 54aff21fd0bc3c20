// SPDX-License-Identifier: Apache-2.0
// Delay and rate of the link to a server, measured: the delay from small pings, the rate from many
// large ones under way at once, so that a shaper's burst and the round trip do not count.
#pragma once

#include "base/result.h"
#include "profile/link.h"
#include "wire/client.h"

namespace outboard::split::exec {

// About a quarter of a second at 1 Gbps; at most two seconds.
Result<profile::Link> measure_link(wire::Client& client);

}  // namespace outboard::split::exec
