// SPDX-License-Identifier: Apache-2.0
// One frame of every kind with fixed content: the byte tests, the mutation tests and the fuzzers'
// seeds.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/frame.h"

namespace outboard::wire {

struct GoldenFrame {
  std::string_view name;  // also the file's in tests/wire/golden/NAME.hex
  FrameKind kind;
  std::string payload;
};

std::vector<GoldenFrame> golden_frames();

// The whole frame: header with request id 7, then the payload.
std::string frame_bytes(const GoldenFrame& frame);

// What a receiver does with a frame's bytes: header, then the decoder of its kind, strings
// included. Any error is fine; crashing, hanging or reading beyond the bytes is not.
Result<void> decode_as_receiver(std::string_view bytes);

}  // namespace outboard::wire
