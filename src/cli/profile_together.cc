// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_together.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>

#include "base/median.h"

namespace outboard::cli {
namespace {

double seconds_since(const Clock& clock, Nanoseconds begin) {
  return std::chrono::duration<double>(clock.now() - begin).count();
}

using Progress = std::function<void(const std::string&)>;

// False when it ended early.
bool take_turns(std::span<Subject* const> subjects, const TogetherOptions& options,
                const std::atomic<bool>& stop, const Clock& clock, const Progress& progress,
                Together& together) {
  const Nanoseconds begin = clock.now();
  for (int round = 0;
       round < options.min_rounds || seconds_since(clock, begin) < options.duration_s / 2;
       ++round) {
    for (std::size_t j = 0; j < subjects.size(); ++j) {
      if (stop) {
        together.interrupted = true;
        return false;
      }
      const auto first = subjects[j]->run();
      const auto second = first ? subjects[j]->run() : first;
      if (!second) {
        together.failure = Error(second.error()).while_doing("running the models in turn");
        return false;
      }
      if (round == 0) continue;  // the first Run of all comes after nothing
      together.models[j].after_other_us.push_back(first->compute_us);
      together.models[j].after_own_us.push_back(second->compute_us);
    }
    if (progress) progress(fmt::format("models in turn: {} rounds", round + 1));
  }
  return true;
}

void run_at_once(std::span<Subject* const> subjects, const TogetherOptions& options,
                 const std::atomic<bool>& stop, const Clock& clock, Together& together) {
  const Nanoseconds begin = clock.now();
  std::atomic<bool> failed{false};
  std::mutex failure_mutex;
  std::vector<std::thread> threads;
  threads.reserve(subjects.size());
  for (std::size_t j = 0; j < subjects.size(); ++j) {
    threads.emplace_back([&, j] {
      while (!stop && !failed && seconds_since(clock, begin) < options.duration_s / 2) {
        const auto times = subjects[j]->run();
        if (!times) {
          failed = true;
          const std::lock_guard lock(failure_mutex);
          together.failure = Error(times.error()).while_doing("running the models at once");
          return;
        }
        together.models[j].at_once_us.push_back(times->compute_us);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  together.interrupted = stop;
}

}  // namespace

double TogetherTimes::swap_us() const {
  if (after_own_us.empty()) return 0;
  std::vector<double> differences(after_own_us.size());
  for (std::size_t i = 0; i < differences.size(); ++i) {
    differences[i] = after_other_us[i] - after_own_us[i];
  }
  return std::max(0.0, median(std::move(differences)));
}

double TogetherTimes::slow_down_per_other(std::size_t models) const {
  if (at_once_us.empty() || after_own_us.empty() || models < 2) return 1;
  const double ratio = median(at_once_us) / median(after_own_us) / static_cast<double>(models);
  return std::clamp(std::pow(std::max(ratio, 1.0), 1 / static_cast<double>(models - 1)), 1.0,
                    100.0);
}

Together measure_together(std::span<Subject* const> subjects, const TogetherOptions& options,
                          const std::atomic<bool>& stop, const Clock& clock,
                          const Progress& progress) {
  Together together;
  together.models.resize(subjects.size());
  if (!take_turns(subjects, options, stop, clock, progress, together)) return together;
  if (progress) progress(fmt::format("{} models at once", subjects.size()));
  run_at_once(subjects, options, stop, clock, together);
  return together;
}

}  // namespace outboard::cli
