// SPDX-License-Identifier: Apache-2.0
// One kind of Run in a process of its own, for bench/offload.py: it makes Runs when it is told to
// and sleeps otherwise, so that blocks of several kinds can alternate on one machine.
//
// Standard input: "block CALLERS MS MOST" makes Runs by CALLERS threads at once for MS milliseconds
// (at least one each, at most MOST), "quit" ends. Each is answered by a line of JSON; the first
// line says what the start cost.
#pragma once

#include <sys/resource.h>

#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace bench {

using Clock = std::chrono::steady_clock;

inline double us_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

[[noreturn]] inline void die(const std::string& message) {
  std::fprintf(stderr, "bench worker: %s\n", message.c_str());
  std::exit(1);
}

inline double cpu_us() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto us = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_usec);
  };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

// What this process holds: its proportional share of what it shares with others.
inline long memory_kb() {
  std::ifstream rollup("/proc/self/smaps_rollup");
  for (std::string line; std::getline(rollup, line);)
    if (line.starts_with("Pss:")) return std::atol(line.c_str() + 4);
  return 0;
}

// FNV-1a; tells whether two kinds computed the same.
inline std::uint64_t hash_of(const void* data, std::size_t size, std::uint64_t hash) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3u;
  return hash;
}
inline constexpr std::uint64_t kHashStart = 0xcbf29ce484222325u;

// The same input for every kind, by its position. Open dimensions: a batch of one, then 128.
inline std::size_t close_dims(std::vector<std::int64_t>& dims) {
  std::size_t count = 1;
  for (std::int64_t& dim : dims) {
    if (dim < 0) dim = &dim == &dims.front() ? 1 : 128;
    count *= static_cast<std::size_t>(dim);
  }
  return count;
}
inline std::string input_bytes(std::size_t index, bool is_float, std::size_t count) {
  std::mt19937_64 random(index + 1);
  std::string bytes(count * (is_float ? sizeof(float) : sizeof(std::int64_t)), '\0');
  std::uniform_real_distribution<float> uniform(0, 1);
  for (std::size_t i = 0; i < count; ++i) {
    if (is_float) {
      const float value = uniform(random);
      std::memcpy(&bytes[i * sizeof value], &value, sizeof value);
    } else {
      bytes[i * 8] = static_cast<char>(random() & 1);
    }
  }
  return bytes;
}

// A Run; each caller has its own, used by one thread.
class Caller {
 public:
  virtual ~Caller() = default;
  virtual void run() = 0;            // outputs are there when it returns
  virtual void release() {}          // what the Run left, not timed
  virtual std::uint64_t hash() = 0;  // of all outputs of a Run that it makes
};

class Worker {
 public:
  explicit Worker(std::function<std::unique_ptr<Caller>()> make) : make_(std::move(make)) {}

  int serve(double create_ms) {
    std::printf("{\"create_ms\": %.2f, \"memory_kb\": %ld}\n", create_ms, memory_kb());
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
      std::istringstream words(line);
      std::string verb;
      std::size_t callers = 1, most = 1;
      double ms = 0;
      words >> verb;
      if (verb == "quit") break;
      if (verb == "hash") {
        std::printf("{\"hash\": \"%016lx\"}\n", static_cast<unsigned long>(caller(0).hash()));
      } else if (verb == "block" && words >> callers >> ms >> most && callers <= 256) {
        block(callers, ms, most);
      } else {
        die("unknown request (" + line + ")");
      }
      std::fflush(stdout);
    }
    return 0;
  }

 private:
  Caller& caller(std::size_t index) {
    while (callers_.size() <= index) callers_.push_back(make_());
    return *callers_[index];
  }

  void block(std::size_t count, double ms, std::size_t most) {
    caller(count - 1);
    std::vector<std::vector<double>> times(count);
    std::barrier start(static_cast<std::ptrdiff_t>(count));
    const double cpu_before = cpu_us();
    const auto begin = Clock::now();
    const auto work = [&](std::size_t index) {
      times[index].reserve(most);
      if (count > 1) start.arrive_and_wait();
      do {
        const auto run_begin = Clock::now();
        callers_[index]->run();
        times[index].push_back(us_since(run_begin));
        callers_[index]->release();
      } while (times[index].size() < most && us_since(begin) < ms * 1e3);
    };
    std::vector<std::thread> threads;
    for (std::size_t i = 1; i < count; ++i) threads.emplace_back(work, i);
    work(0);
    for (std::thread& thread : threads) thread.join();
    const double wall = us_since(begin), cpu = cpu_us() - cpu_before;
    std::string text = "{\"wall_us\": " + std::to_string(wall) +
                       ", \"cpu_us\": " + std::to_string(cpu) +
                       ", \"memory_kb\": " + std::to_string(memory_kb()) + ", \"times_us\": [";
    char number[32];
    bool first = true;
    for (const auto& one : times)
      for (const double time : one) {
        std::snprintf(number, sizeof number, first ? "%.2f" : ",%.2f", time);
        text += number;
        first = false;
      }
    std::printf("%s]}\n", text.c_str());
  }

  const std::function<std::unique_ptr<Caller>()> make_;
  std::vector<std::unique_ptr<Caller>> callers_;
};

}  // namespace bench
