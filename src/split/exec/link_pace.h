// SPDX-License-Identifier: Apache-2.0
// How fast a link moves the rows of one frame, from looks at it now and then: what a host goes by
// that is to know early whether a frame can still end in time.
//
//   LinkPace pace;
//   pace.begin(moved_bytes);                            // with the frame
//   pace.saw(at_us, moved_bytes, rows_are_under_way);   // again and again
//   if (pace.left_us(frame_bytes) > ...)
//
// Between its messages a link rests, as it is planned to; so a rate is told only from several looks
// in a row at which rows were under way. Pure; microseconds and bytes; not thread-safe.
#pragma once

#include <cstdint>

namespace outboard::split::exec {

class LinkPace {
 public:
  static constexpr int kLooks = 4;  // in a row

  // A frame begins when so many bytes have moved over the link, in both directions together.
  void begin(std::uint64_t moved_bytes);
  void saw(double at_us, std::uint64_t moved_bytes, bool under_way);
  // Since begin(), or the look before the last one.
  bool has_moved() const { return moved_; }
  // From the last look until all rows of the frame, so many bytes both ways, have moved at the rate
  // of the last looks; 0: nothing can be said.
  double left_us(std::uint64_t frame_bytes) const;

 private:
  std::uint64_t begin_bytes_ = 0, now_bytes_ = 0;
  bool moved_ = false;
  int looks_ = 0;  // in a row, with rows under way
  double first_us_ = 0, now_us_ = 0;
  std::uint64_t first_bytes_ = 0;
};

}  // namespace outboard::split::exec
