// SPDX-License-Identifier: Apache-2.0
// When a Run that is under way at a server will end, from the bytes of it that move: what is left
// of the request at the rate of the last moments, then the server's computing, then the reply.
//
//   Forecast forecast(usual);                    // what such Runs move and compute
//   forecast.saw(elapsed_us, moved_bytes);       // again and again
//   if (forecast.left_us() > ...)
//
// It is a lower bound: the server's queue, the way back and a rate that goes on falling come on
// top. Nothing is said while hardly anything moves: then the server computes, or the link is
// silent, which hedge_rule.h tells by other signs. Pure; microseconds and bytes; not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace outboard::intercept {

// What Runs like this one are at that server.
struct UsualRun {
  std::uint64_t request_bytes = 0, reply_bytes = 0;  // as they travel
  double compute_us = 0;
  double down_us_per_byte = 0;  // of the link; 0: not known
};

class Forecast {
 public:
  // The last moments: so long that what leaves in bursts is averaged.
  static constexpr double kWindowUs = 350e3;
  static constexpr double kLeastSpanUs = 90e3;
  static constexpr std::uint64_t kLeastBytes = 4096;

  explicit Forecast(const UsualRun& usual) : usual_(usual) {}

  // So many bytes of the Run had moved in both directions. A look that saw fewer than the one
  // before saw nothing and does not count.
  void saw(double elapsed_us, std::uint64_t moved_bytes);
  // Of the last moments; 0: nothing can be said.
  double us_per_byte() const;
  // From the last look to the Run's end, at least; 0: nothing can be said.
  double left_us() const;
  // Whether it is the request that moves.
  bool is_leaving() const;

 private:
  struct Look {
    double elapsed_us = 0;
    std::uint64_t moved_bytes = 0;
  };
  const Look& newest() const { return looks_[(count_ - 1) % looks_.size()]; }

  UsualRun usual_;
  std::array<Look, 8> looks_;
  std::size_t count_ = 0;
};

}  // namespace outboard::intercept
