// SPDX-License-Identifier: Apache-2.0
// How many more of these fit, and which device should be added?
// Pure. Thread-safety: as Placer.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "manage/place/placer.h"

namespace outboard::manage {

struct CapacityOptions {
  PlacerOptions placer;
  int most = 1000;  // counting stops there
  std::function<void(std::string_view)> progress;
};

struct Capacity {
  int more = 0;     // that fit as things are
  Obstacle reason;  // why not one more; breach kNone when counting stopped at `most`
  // For every kind of device there is (with its discipline, servers and memory): how many more
  // would fit with one more of it, idle. Most first, then by name.
  struct Addition {
    profile::Device device;  // `name` is the one that it is like
    int more = 0;
  };
  std::vector<Addition> additions;
};

// Counts copies of `like`, without pins. The fleet is not changed.
Capacity capacity(const Fleet& fleet, Judge& judge, const profile::Application& like,
                  const CapacityOptions& options);

}  // namespace outboard::manage
