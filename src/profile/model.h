// SPDX-License-Identifier: Apache-2.0
// What was measured of one model on one kind of device. `outboard profile` writes it; the queueing
// models and the placement read it. Plain values; units last in the names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "profile/distribution.h"

namespace outboard::profile {

// A batch of b requests takes slope_us * b + base_us on the device.
struct BatchTime {
  double slope_us = 0;
  double base_us = 0;
  int max_batch = 1;
  bool operator==(const BatchTime&) const = default;
};

struct ModelProfile {
  std::string model;        // its name in applications
  std::string device_kind;  // "edge-tpu", "jetson-nano", "cpu-4": a device of this kind runs it so
  Distribution service;     // on the accelerator, the model in place, alone
  // Paid in addition when the request before it on the device was for another model.
  Distribution swap;
  Distribution load;    // from nothing to ready: paid once, when the model is placed or moved
  Distribution before;  // on the host before the accelerator (decode, resize)
  Distribution after;   // on the host after it
  std::uint64_t memory_bytes = 0;
  // What every application adds on the device's host, its model shared or not (its front end).
  std::uint64_t memory_per_application_bytes = 0;
  // Factor >= 1 on the service time while n models run at once, over and above the n-fold that
  // fair sharing itself gives: slow_down_per_other ^ (n - 1).
  double slow_down_per_other = 1.0;
  std::optional<BatchTime> batch;

  bool operator==(const ModelProfile&) const = default;
};

}  // namespace outboard::profile
