// SPDX-License-Identifier: Apache-2.0
// The Runs of this process one by one, for --trace. Thread-safe. Memory is bounded: beyond
// kMaxEvents Runs are counted, not kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "intercept/common/choose.h"
#include "wire/client.h"

namespace outboard::intercept {

struct TraceEvent {
  std::uint64_t session = 0;
  std::int64_t start_ns = 0;  // monotonic clock
  std::uint64_t time_ns = 0;
  std::uint32_t thread = 0;
  Place place = Place::kLocal;
  LocalReason reason = LocalReason::kNone;
  bool explores = false;  // it was sent to its side to learn what it takes there
  wire::RunAccount run;   // when place is kServer
};

class Trace {
 public:
  static constexpr std::size_t kMaxEvents = 500'000;
  void add(const TraceEvent& event);
  std::vector<TraceEvent> events() const;
  std::uint64_t dropped() const;

 private:
  mutable std::mutex mutex_;
  std::vector<TraceEvent> events_;
  std::uint64_t dropped_ = 0;
};

// Where the server's share of a Run lies on the client's clock, in nanoseconds from the Run's
// start. The way there and back are taken to be equally long: with w = wait, q = queue and c =
// compute, it ends (w - q - c) / 2 before the reply's first byte. A share longer than the wait
// began while the client was still inside send.
struct ServerSpan {
  std::uint64_t queue_start_ns = 0, compute_start_ns = 0, compute_end_ns = 0;
};
ServerSpan place_on_client_clock(const wire::RunAccount& run);

// Chrome trace events, comma separated, without the brackets around them. `process_name` and the
// servers' rows are named by metadata events.
std::string chrome_events(const std::vector<TraceEvent>& events, std::uint32_t process,
                          const std::string& process_name);

}  // namespace outboard::intercept
