// SPDX-License-Identifier: Apache-2.0
// A Stream over a connected socket, TCP and unix alike. Takes the descriptor over.
#pragma once

#include <memory>

#include "wire/transport/stream.h"

namespace outboard::wire {

std::unique_ptr<Stream> make_socket_stream(int fd);

// Cubic, also where the system prefers BBR: a client has a connection for each Run under way, and
// BBR lets many that send now and then starve each other (16 callers over 1 Gbps: p99 270 to 830 ms
// against 95 ms) and slows each down for 200 ms every 10 s to measure its delay.
// OUTBOARD_TCP_CONGESTION names another one, or "system". Where it is not there the system's stays.
// For a TCP socket that is to connect, or to listen (what it accepts inherits it): once there is a
// connection BBR has turned pacing on, which stays on under whatever comes in its place.
void choose_congestion_control(int fd);

}  // namespace outboard::wire
