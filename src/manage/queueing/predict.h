// SPDX-License-Identifier: Apache-2.0
// The response times of every application that shares a device.
//
//   Predictor predictor;                                    // one a thread; keeps its tables
//   OB_TRY(auto bounds, predictor.bounds(system));          // microseconds of work; rigorous
//   OB_TRY(auto answer, predictor.predict(system, {}));     // the whole distribution
//   answer.streams[i].p_late, .percentile_us, .mean_us, .response.quantile_us(0.99) ...
//
// How a system is answered (Answer::method; docs/queueing.md has what each costs and its error):
//
//   one server, fcfs, Poisson              kExact (swap_queue.h)
//   processor sharing, Poisson             kApproximate: exact mean and variance, fitted tail
//   (sharing.h) time-shared, several servers, batching, priority, EDF; bursts by statistics
//   kSimulated, seeded, with 99 % confidence intervals a recorded trace for every stream kTrace:
//   the simulator on the trace itself
//
// Effort::kScreen answers in tens of microseconds, everywhere by an approximation (kApproximate).
// Every answer says under which conditions it holds and bounds its numerical (or sampling) error.
// The same system gives the same answer: the seed is part of the options.
//
// Errors: kInvalid for a bad or unstable system (check_system); kRefused when no model is trusted
// for it (a bursty stream whose trace is too short or changes too much): the sentence says why.
// Pure: no I/O, no clock. Thread-safety: a Predictor may be used by one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "manage/queueing/system.h"

namespace outboard::manage {

// P(T <= t), known at rising times and joined by lines; a jump has two points at one time.
class Curve {
 public:
  Curve() = default;
  // REQUIRES: the same number of each, times rising, probabilities rising within [0, 1].
  Curve(std::vector<double> time_us, std::vector<double> probability);

  double cdf(double time_us) const;
  // Smallest t with cdf(t) >= probability; infinity past the last point.
  double quantile_us(double probability) const;
  const std::vector<double>& time_us() const { return time_us_; }
  const std::vector<double>& probability() const { return probability_; }
  bool empty() const { return time_us_.empty(); }

 private:
  std::vector<double> time_us_;
  std::vector<double> probability_;
};

enum class Method : std::uint8_t { kExact, kApproximate, kSimulated, kTrace };
std::string_view name_of(Method method);

// Where the mean response comes from; the sum of the parts is the mean. `queue_us` is waiting for
// others (or for a batch), `swap_us` the own swap, `sharing_us` what others take while it is
// served.
struct Terms {
  double service_us = 0;
  double swap_us = 0;
  double queue_us = 0;
  double sharing_us = 0;
  double outside_us = 0;
  // "queue", "swap", "sharing", "outside" (network and host) or "service": the largest.
  std::string_view dominant() const;
};

struct StreamAnswer {
  double mean_us = 0;
  // At the limit's percentile (95 when the stream has no limit).
  double percentile_us = 0;
  // P(response > limit); 0 without a limit.
  double p_late = 0;
  // Limit minus percentile: negative when the limit does not hold. Infinity without a limit.
  double slack_us = 0;
  // What the truth may differ by under the stated conditions. kExact: rigorous (from rounding up
  // and down) when Options::brackets, else the difference that half the points make.
  // kSimulated, kTrace: half width of the 99 % confidence interval. kApproximate: see conditions.
  double mean_error_us = 0;
  double percentile_error_us = 0;
  Terms terms;
  Curve response;  // empty unless Options::curves
};

struct Answer {
  std::vector<StreamAnswer> streams;  // as System::streams
  double utilisation = 0;
  Method method = Method::kExact;
  std::string conditions;  // a sentence
};

// Rigorous for one server, fcfs, Poisson: the percentile of the limit lies in [lower, upper]. For
// every other system lower is what a request alone takes and upper is infinity.
struct Bounds {
  struct Of {
    double lower_us = 0;
    double upper_us = 0;
  };
  std::vector<Of> streams;  // as System::streams
  double utilisation = 0;
};

enum class Effort : std::uint8_t { kScreen, kFull };

class Predictor {
 public:
  struct Options {
    Effort effort = Effort::kFull;
    bool curves = false;    // fill StreamAnswer::response
    bool brackets = false;  // kExact: rigorous error bounds; ten times the time
    std::uint64_t seed = 1;
    bool replay = false;  // traces are what happens, not a ground for the future: no refusal
    std::size_t requests = 400000;  // kSimulated: how many, over all streams
  };

  Predictor();
  ~Predictor();
  Predictor(Predictor&&) noexcept;
  Predictor& operator=(Predictor&&) noexcept;

  Result<Answer> predict(const System& system, const Options& options);
  Result<Bounds> bounds(const System& system);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace outboard::manage
