// SPDX-License-Identifier: Apache-2.0
#include "wire/frame.h"

#include <cstring>

#include "base/limits.h"

namespace outboard::wire {

std::string_view name_of(FrameKind kind) {
  switch (kind) {
    case FrameKind::kHello:
      return "hello";
    case FrameKind::kHelloReply:
      return "hello reply";
    case FrameKind::kError:
      return "error";
    case FrameKind::kPing:
      return "ping";
    case FrameKind::kPong:
      return "pong";
    case FrameKind::kHeartbeat:
      return "heartbeat";
    case FrameKind::kCancel:
      return "cancel";
    case FrameKind::kModelQuery:
      return "model query";
    case FrameKind::kModelState:
      return "model state";
    case FrameKind::kUploadChunk:
      return "upload chunk";
    case FrameKind::kUploadState:
      return "upload state";
    case FrameKind::kSessionOpen:
      return "session open";
    case FrameKind::kSessionOpened:
      return "session opened";
    case FrameKind::kSessionClose:
      return "session close";
    case FrameKind::kRun:
      return "run";
    case FrameKind::kRunResult:
      return "run result";
    case FrameKind::kTensorChunk:
      return "tensor chunk";
    case FrameKind::kCodingHint:
      return "coding hint";
    case FrameKind::kTensorsWanted:
      return "tensors wanted";
    case FrameKind::kSharedRegion:
      return "shared region";
    case FrameKind::kRings:
      return "rings";
    case FrameKind::kStatus:
      return "status";
    case FrameKind::kStatusReply:
      return "status reply";
    case FrameKind::kProbe:
      return "probe";
    case FrameKind::kProbeReply:
      return "probe reply";
    case FrameKind::kSplitAssign:
      return "split assign";
    case FrameKind::kSplitReady:
      return "split ready";
    case FrameKind::kSplitJoin:
      return "split join";
    case FrameKind::kSplitJoined:
      return "split joined";
    case FrameKind::kSplitRows:
      return "split rows";
    case FrameKind::kSplitReport:
      return "split report";
    case FrameKind::kSplitConnect:
      return "split connect";
    case FrameKind::kSplitConnected:
      return "split connected";
    case FrameKind::kSplitMeasure:
      return "split measure";
    case FrameKind::kSplitMeasured:
      return "split measured";
  }
  return "unknown";
}

std::string request_name(std::uint64_t request_id) { return fmt::format("r{:016x}", request_id); }

std::uint64_t length_limit(FrameKind kind) {
  switch (kind) {
    case FrameKind::kPing:
    case FrameKind::kPong:
    case FrameKind::kProbe:
    case FrameKind::kProbeReply:
      return 64u << 10;
    case FrameKind::kHeartbeat:
    case FrameKind::kSessionClose:
    case FrameKind::kSharedRegion:
      return 64;
    case FrameKind::kCancel:
    case FrameKind::kRings:
    case FrameKind::kStatus:
      return 0;
    case FrameKind::kUploadChunk:
      return limits::kUploadChunkBytes + 64;
    case FrameKind::kTensorChunk:
      return limits::kTensorChunkBytes + 16;
    case FrameKind::kCodingHint:
      return 64;
    case FrameKind::kTensorsWanted:
      return limits::kValues * sizeof(std::uint32_t);
    case FrameKind::kRun:
    case FrameKind::kRunResult:
      return limits::kRunBytes;
    case FrameKind::kSplitRows:
      return limits::kTensorBytes;
    case FrameKind::kSplitJoin:
    case FrameKind::kSplitConnect:
      return 64;
    default:
      return limits::kControlMessageBytes;
  }
}

std::array<std::byte, kFrameHeaderBytes> encode(const FrameHeader& header) {
  std::array<std::byte, kFrameHeaderBytes> bytes;
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  FrameHeader header;
  std::memcpy(static_cast<void*>(&header), bytes.data(), sizeof header);
  if (header.magic != kMagic)
    return error(ErrorKind::kInvalid,
                 "frame magic ({:#010x}) must be {:#010x}; is the peer Outboard?", header.magic,
                 kMagic);
  if (header.version != kFrameVersion)
    return error(ErrorKind::kInvalid, "frame version ({}) must be {}", header.version,
                 kFrameVersion);
  if (header.reserved0 != 0 || header.reserved1 != 0)
    return error(ErrorKind::kInvalid, "reserved bits of a frame ({:#x}, {:#x}) must be zero",
                 header.reserved0, header.reserved1);
  if (header.length > length_limit(header.kind))
    return error(ErrorKind::kInvalid, "length ({}) of a frame of kind {} ({}) must be at most {}",
                 header.length, static_cast<int>(header.kind), name_of(header.kind),
                 length_limit(header.kind));
  return header;
}

}  // namespace outboard::wire
