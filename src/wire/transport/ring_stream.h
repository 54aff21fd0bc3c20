// SPDX-License-Identifier: Apache-2.0
// Two processes on one host that are awake need no kernel to exchange a message: a byte ring in
// shared memory for each direction, and the unix socket to wake whoever sleeps.
//
// Each side has a region of its own (transport/shared_memory.h; only it can write there): the ring
// that it sends by, how far it has read the peer's ring, and whether it sleeps. A writer copies its
// bytes into its ring and, if the reader says that it sleeps, sends one byte by the socket; a
// reader that finds nothing says so, looks once more, and sleeps on the socket. The socket also
// carries descriptors and shows that a peer has gone. A round trip between two threads that look
// takes 0.6 us where it takes 5 us by a unix socket (docs/benchmarks.md).
//
// What the peer writes is data and nothing else: its counters are checked whenever they are used,
// and bytes are copied out before anybody reads them. Thread-safety and errors: a Stream's;
// kInvalid: the peer's counters are impossible.
#pragma once

#include <memory>

#include "base/result.h"
#include "wire/transport/shared_memory.h"
#include "wire/transport/stream.h"

namespace outboard::wire {

// One side's region, whose descriptor the peer must get.
Result<SharedRegion> make_ring_region();
// The peer's, as it came. kInvalid: not what make_ring_region() makes.
Result<PeerRegion> map_ring_region(const FileDescriptor& descriptor);

// Goes on over rings from now on: nothing that was sent by `below` may be on its way, and both
// sides must begin here. `below`: a unix socket.
std::unique_ptr<Stream> make_ring_stream(std::unique_ptr<Stream> below, SharedRegion own,
                                         PeerRegion peer);

}  // namespace outboard::wire
