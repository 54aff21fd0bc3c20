// SPDX-License-Identifier: Apache-2.0
// What a server counts. Bounded memory; thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace outboard::serve {

// The latest times of one kind.
class TimeWindow {
 public:
  static constexpr std::size_t kSamples = 4096;

  struct Summary {
    std::uint64_t count = 0;  // samples the other fields are over: at most kSamples
    double mean_us = 0, p95_us = 0, max_us = 0;
  };

  void add(std::uint64_t time_ns);
  Summary summary() const;  // sorts a copy; not for a hot path

 private:
  mutable std::mutex mutex_;
  std::array<float, kSamples> samples_us_{};
  std::uint64_t added_ = 0;
};

struct Statistics {
  std::atomic<std::uint64_t> runs{0}, failed_runs{0}, cancelled_runs{0}, refused_runs{0};
  std::atomic<std::uint64_t> bytes_received{0}, bytes_sent{0};  // frames' bytes, of all connections
  std::atomic<std::uint64_t> upload_bytes{0};
  std::atomic<std::uint64_t> connections{0}, connections_total{0}, bad_connections{0};
  std::atomic<std::uint64_t> shared_memory_connections{0};
  std::atomic<std::uint64_t> in_flight{0}, in_flight_bytes{0};
  TimeWindow queue, compute;
};

}  // namespace outboard::serve
