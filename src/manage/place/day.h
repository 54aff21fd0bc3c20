// SPDX-License-Identifier: Apache-2.0
// A day in the life of a placement: every request of every application, with bursts and devices
// that fail, through the event simulator. Whose limits broke, and when?
//
// An application's arrivals are its trace (repeated), else its burstiness, else Poisson; a burst
// multiplies its rate for a while. Requests are dealt to its replicas by their shares. When a
// device fails, what was there and what comes until `detect_s` and the model's load time have
// passed is lost, and counts as late; then its parts go where the plan says, and come back when the
// device does. What has no plan stays lost until then.
// Within an application responses are told to arrivals in their order, which is exact where an
// application's requests overtake one another nowhere (not processor sharing, several servers).
// Pure; deterministic by seed. Units: seconds of the day in `_s`.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "manage/place/placer.h"

namespace outboard::manage {

struct Failure {
  std::string device;
  double from_s = 0;
  double to_s = 0;
};

struct Burst {
  std::string application;
  double from_s = 0;
  double to_s = 0;
  double factor = 2;  // >= 1
};

struct DayOptions {
  double length_s = 86400;
  double window_s = 300;  // limits are looked at in windows of this length
  double detect_s = 1;
  std::uint64_t seed = 1;
  std::vector<Failure> failures;
  std::vector<Burst> bursts;
  std::function<void(std::string_view, std::size_t, std::size_t)> progress;
};

// Of one application. A window breaks the limit when more of its requests are late than the limit's
// percentile allows; windows next to one another are one stretch.
struct AppDay {
  std::string application;
  profile::Limit limit;
  std::uint64_t requests = 0;
  std::uint64_t late = 0;  // lost ones included
  std::uint64_t lost = 0;
  struct Window {
    std::uint32_t requests = 0, late = 0;
  };
  std::vector<Window> windows;
  struct Broken {
    double from_s = 0, to_s = 0;
    double late_share = 0;
  };
  std::vector<Broken> broken;

  double late_share() const {
    return requests ? static_cast<double>(late) / static_cast<double>(requests) : 0;
  }
};

struct Day {
  double window_s = 300;
  std::vector<AppDay> applications;  // by name; those that are placed
  std::uint64_t events = 0;
};

// `placer` has the fleet and (with survive = 1) its plans. kNotFound: a failure or burst names what
// is not there; kInvalid: its times or its factor.
Result<Day> simulate_day(Placer& placer, const DayOptions& options);

}  // namespace outboard::manage
