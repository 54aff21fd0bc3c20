// SPDX-License-Identifier: Apache-2.0
// Every size and count that a peer, a file or a user may name has its limit here.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace outboard::limits {

inline constexpr std::uint64_t kControlMessageBytes = 16u << 20;  // any frame that is not bulk data
inline constexpr std::uint64_t kTensorBytes = std::uint64_t{16} << 30;        // one tensor
inline constexpr std::uint64_t kRunBytes = std::uint64_t{32} << 30;           // one Run's frame
inline constexpr std::uint64_t kSharedRegionBytes = std::uint64_t{64} << 30;  // one direction
inline constexpr std::uint64_t kSharedPeersBytes = std::uint64_t{16} << 40;  // mapped, of all peers
inline constexpr std::uint64_t kRunHeaderBytes = 1u << 20;    // tensor headers of one Run
inline constexpr std::uint64_t kUploadChunkBytes = 4u << 20;  // one chunk of a model's file
inline constexpr std::uint64_t kTensorChunkBytes = 1u
                                                   << 20;  // what a chunk of a coded tensor holds
inline constexpr std::uint64_t kModelFileBytes = std::uint64_t{64} << 30;
inline constexpr std::size_t kModelFiles = 4096;  // files of one model
inline constexpr std::size_t kValues = 16384;     // inputs or outputs of a session
inline constexpr std::size_t kRank = 32;          // dimensions of a tensor
inline constexpr std::size_t kSessionsPerConnection = 4096;
inline constexpr std::size_t kNameBytes = 4096;                // names of values, files, options
inline constexpr std::size_t kTextBytes = 1u << 20;            // one text field of a message
inline constexpr std::size_t kReceiveBufferBytes = 16u << 10;  // per connection

// Before a token is proven a connection may take so much of a server, and so long
// (docs/security.md).
inline constexpr std::size_t kTokenBytes = 128;
inline constexpr std::size_t kHelloBytes = 8u << 10;           // Hello's frame
inline constexpr std::size_t kTlsClientHelloBytes = 8u << 10;  // what comes before it is complete

// While it computes, a server sends a heartbeat this often; a peer that is silent for the stall
// timeout is taken for dead.
inline constexpr std::chrono::milliseconds kHeartbeatInterval{200};
inline constexpr std::chrono::milliseconds kStallTimeout{800};
inline constexpr std::chrono::milliseconds kConnectTimeout{2000};
// A client is dropped that does not say hello, or stops in mid-frame or mid-reply, for this long.
inline constexpr std::chrono::milliseconds kHandshakeTimeout{5'000};
inline constexpr std::chrono::milliseconds kClientStallTimeout{20'000};

}  // namespace outboard::limits
