// SPDX-License-Identifier: Apache-2.0
// What shares one device: the input of every queueing model and of the simulator.
//
// Thread-safety: plain values. Units: microseconds in `_us`, requests per second in `_per_s`.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "profile/cluster.h"

namespace outboard::manage {

// One application's requests at the device.
struct Stream {
  std::string name;
  int model = 0;  // streams with the same number share the model: no swap between them
  double rate_per_s = 0;
  profile::Distribution service;
  profile::Distribution swap;
  // In series with the device, independent of it: host before and after it, network.
  profile::Distribution outside;
  profile::Limit limit;  // latency_ms 0: none
  int priority = 0;
  double slow_down_per_other = 1;
  std::optional<profile::BatchTime> batch;
  std::vector<double> arrivals_s;  // a trace; empty: Poisson unless `burstiness` says otherwise
  profile::Burstiness burstiness;

  double limit_us() const { return limit.latency_ms * 1e3; }
};

struct System {
  profile::Discipline discipline = profile::Discipline::kFcfs;
  int servers = 1;
  double batch_wait_us = 0;
  std::vector<Stream> streams;

  // Share of time that the device (each of its servers, on average) is busy; >= 1 is unstable.
  // Batching: at its largest batches. Time sharing: without the slow-down.
  double utilisation() const;
};

// `residents` on `device`, with the profiles that `cluster` has for them. kNotFound when one has
// no profile for the device's kind.
Result<System> system_of(const profile::Cluster& cluster, const profile::Device& device,
                         std::span<const profile::Application* const> residents);
// All applications that name the device.
Result<System> system_of(const profile::Cluster& cluster, const profile::Device& device);

// kInvalid with a sentence: no stream, a rate or a service that is not positive, utilisation >= 1,
// batching without a batch profile. The sentence names the stream.
Result<void> check_system(const System& system);

}  // namespace outboard::manage
