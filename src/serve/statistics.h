// SPDX-License-Identifier: Apache-2.0
// What a server counts. Bounded memory; thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace outboard::serve {

// Times of one kind: the latest of them, and a histogram of all since the start.
class TimeWindow {
 public:
  static constexpr std::size_t kSamples = 4096;
  // Upper bounds of the histogram's buckets, in seconds; one more bucket takes what is above.
  static constexpr std::array kBounds_s = {50e-6,  100e-6, 250e-6, 500e-6, 1e-3,   2.5e-3,
                                           5e-3,   10e-3,  25e-3,  50e-3,  100e-3, 250e-3,
                                           500e-3, 1.0,    2.5,    5.0,    10.0};

  struct Summary {
    std::uint64_t count = 0;  // samples the other fields are over: at most kSamples
    double mean_us = 0, p50_us = 0, p95_us = 0, max_us = 0;
  };
  struct Histogram {
    std::array<std::uint64_t, kBounds_s.size() + 1> counts{};  // not cumulative
    double sum_s = 0;
  };

  void add(std::uint64_t time_ns);
  Summary summary() const;  // sorts a copy; not for a hot path
  Histogram histogram() const;

 private:
  mutable std::mutex mutex_;
  std::array<float, kSamples> samples_us_{};
  std::uint64_t added_ = 0;
  Histogram histogram_;
};

struct Statistics {
  std::atomic<std::uint64_t> runs{0}, failed_runs{0}, cancelled_runs{0}, refused_runs{0};
  std::atomic<std::uint64_t> bytes_received{0}, bytes_sent{0};  // frames' bytes, of all connections
  std::atomic<std::uint64_t> upload_bytes{0};
  std::atomic<std::uint64_t> connections{0}, connections_total{0}, bad_connections{0};
  std::atomic<std::uint64_t> shared_memory_connections{0};
  std::atomic<std::uint64_t> in_flight{0}, in_flight_bytes{0};
  std::atomic<std::uint64_t> coded_tensor_bytes{0}, coded_chunk_bytes{0};  // the latter on the wire
  std::atomic<std::uint64_t> known_bytes{0}, known_hits{0}, known_misses{0};
  TimeWindow queue, compute;
};

}  // namespace outboard::serve
