// SPDX-License-Identifier: Apache-2.0
// docs/wire.md's bytes: every frame has the bytes that stand in golden/, and every truncation and
// every single-byte change of them goes through the decoder (under the sanitizers too).
//
// OUTBOARD_WRITE_GOLDEN=1 writes the files anew: only together with a change of docs/wire.md.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/wire/golden.h"

namespace outboard::wire {
namespace {

std::string golden_path(std::string_view name) {
  return std::string(std::getenv("OUTBOARD_SOURCE_DIR")) + "/tests/wire/golden/" +
         std::string(name) + ".hex";
}

std::string to_hex(std::string_view bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    text += fmt::format("{:02x}{}", static_cast<unsigned char>(bytes[i]),
                        (i + 1) % 32 == 0 ? "\n" : " ");
  return text;
}

std::string from_hex(const std::string& text) {
  std::istringstream in(text);
  std::string bytes;
  for (unsigned value; in >> std::hex >> value;) bytes.push_back(static_cast<char>(value));
  return bytes;
}

TEST(Golden, EveryFrameHasItsBytes) {
  for (const GoldenFrame& frame : golden_frames()) {
    if (std::getenv("OUTBOARD_WRITE_GOLDEN") != nullptr)
      std::ofstream(golden_path(frame.name)) << to_hex(frame_bytes(frame));
    std::ifstream file(golden_path(frame.name));
    ASSERT_TRUE(file) << golden_path(frame.name);
    std::ostringstream text;
    text << file.rdbuf();
    EXPECT_EQ(to_hex(frame_bytes(frame)), to_hex(from_hex(text.str()))) << frame.name;
  }
}

TEST(Golden, EveryFrameDecodes) {
  for (const GoldenFrame& frame : golden_frames()) {
    const auto result = decode_as_receiver(frame_bytes(frame));
    EXPECT_TRUE(result) << frame.name << ": " << result.error().message;
  }
}

TEST(Golden, EveryTruncationIsAnError) {
  for (const GoldenFrame& frame : golden_frames()) {
    const std::string bytes = frame_bytes(frame);
    for (std::size_t size = 0; size < bytes.size(); ++size)
      EXPECT_FALSE(decode_as_receiver(std::string_view(bytes).substr(0, size)))
          << frame.name << " cut to " << size;
  }
}

// A payload cut short under a header that tells the truth about it: what a confused peer sends.
TEST(Golden, EveryTruncatedPayloadGoesThroughTheDecoder) {
  for (GoldenFrame frame : golden_frames()) {
    while (!frame.payload.empty()) {
      frame.payload.pop_back();
      (void)decode_as_receiver(frame_bytes(frame));
    }
  }
}

TEST(Golden, EverySingleByteChangeGoesThroughTheDecoder) {
  std::uint64_t refused = 0, tried = 0;
  for (const GoldenFrame& frame : golden_frames()) {
    std::string bytes = frame_bytes(frame);
    for (char& byte : bytes) {
      const char original = byte;
      for (int value = 0; value < 256; ++value) {
        byte = static_cast<char>(value);
        ++tried;
        if (!decode_as_receiver(bytes)) ++refused;
      }
      byte = original;
    }
  }
  // Were the decoder to accept everything, this test would prove nothing.
  EXPECT_GT(refused, tried / 10);
}

}  // namespace
}  // namespace outboard::wire
