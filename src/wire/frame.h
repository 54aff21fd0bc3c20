// SPDX-License-Identifier: Apache-2.0
// The frame: a fixed little-endian header, then `length` bytes. docs/wire.md is the specification.
// Pure; thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace outboard::wire {

inline constexpr std::uint32_t kMagic = 0x3142544F;  // "OTB1" in memory order
inline constexpr std::uint8_t kFrameVersion = 1;

// Numbers are never reused.
enum class FrameKind : std::uint8_t {
  kHello = 1,  // Hello -> kHelloReply
  kHelloReply = 2,
  kError = 3,  // ErrorReply: the answer to a request that failed
  kPing = 4,   // any payload up to 64 KiB -> kPong with the same payload
  kPong = 5,
  kHeartbeat = 6,    // Heartbeat record: the server is at work on the request
  kCancel = 7,       // no payload; request_id names what to cancel; not answered itself
  kModelQuery = 16,  // ModelManifest -> kModelState
  kModelState = 17,
  kUploadChunk = 18,  // UploadChunk record + bytes -> kUploadState
  kUploadState = 19,
  kSessionOpen = 32,  // SessionOpen -> kSessionOpened
  kSessionOpened = 33,
  kSessionClose = 34,  // SessionClose record; not answered
  kRun = 48,           // RunRequest record + tensors -> kRunResult
  kRunResult = 49,
  kSharedRegion = 50,   // SharedRegion record and a descriptor; not answered
  kRings = 51,          // no payload, and a descriptor -> the same from the other side
  kTensorChunk = 52,    // ChunkRecord and body, after a Run or its result; not answered itself
  kCodingHint = 53,     // CodingHint record; not answered
  kTensorsWanted = 54,  // indices of inputs, in answer to a Run; answered by their chunks
  kStatus = 64,         // no payload -> kStatusReply
  kStatusReply = 65,    // a JSON document
  kProbe = 66,          // Probe record + bytes of padding, up to 64 KiB -> kProbeReply
  kProbeReply = 67,     // ProbeReply record + as many bytes as were asked for
  kSplitAssign = 80,    // a participant's part of a split inference -> kSplitReady
  kSplitReady = 81,
  kSplitJoin = 82,  // this connection becomes a link between two participants -> kSplitJoined
  kSplitJoined = 83,
  kSplitRows = 84,     // on a link, both ways: rows of tensors; not answered
  kSplitReport = 85,   // on a link, to the host: what a frame took; not answered
  kSplitConnect = 86,  // link up with the other participants -> kSplitConnected
  kSplitConnected = 87,
  kSplitMeasure = 88,  // time against rows of a model on this node -> kSplitMeasured
  kSplitMeasured = 89,
};

std::string_view name_of(FrameKind kind);  // "unknown" for a number without a name

struct FrameHeader {
  std::uint32_t magic = kMagic;
  std::uint8_t version = kFrameVersion;
  FrameKind kind = FrameKind::kPing;
  std::uint16_t reserved0 = 0;    // zero, checked
  std::uint64_t request_id = 0;   // the client counts up; a reply carries its request's
  std::uint64_t length = 0;       // bytes that follow
  std::uint32_t deadline_us = 0;  // what is left of the request's time; 0: none
  std::uint32_t reserved1 = 0;    // zero, checked
};
static_assert(sizeof(FrameHeader) == 32);
static_assert(offsetof(FrameHeader, magic) == 0 && offsetof(FrameHeader, version) == 4 &&
              offsetof(FrameHeader, kind) == 5 && offsetof(FrameHeader, reserved0) == 6 &&
              offsetof(FrameHeader, request_id) == 8 && offsetof(FrameHeader, length) == 16 &&
              offsetof(FrameHeader, deadline_us) == 24 && offsetof(FrameHeader, reserved1) == 28);

inline constexpr std::size_t kFrameHeaderBytes = sizeof(FrameHeader);

std::array<std::byte, kFrameHeaderBytes> encode(const FrameHeader& header);
// kInvalid for a wrong magic, version, reserved bits, or a length beyond the kind's limit
// (base/limits.h). An unknown kind is no error here: the receiver answers kUnimplemented.
Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderBytes> bytes);

// What logs and traces of all call a request: "r" and 16 hexadecimal digits.
std::string request_name(std::uint64_t request_id);

// The largest payload that a frame of this kind may have.
std::uint64_t length_limit(FrameKind kind);

}  // namespace outboard::wire
