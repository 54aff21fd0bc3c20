// SPDX-License-Identifier: Apache-2.0
// An accelerator that several applications share, as the queueing models see it. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "profile/distribution.h"

namespace outboard::profile {

// In which order, and how many at once, a device serves what waits for it.
enum class Discipline : std::uint8_t {
  kFcfs = 1,        // one queue, first come first served, a swap when the model changes
  kTimeShared = 2,  // first come first served within a model, models that are busy share fairly
  kProcessorSharing = 3,  // every request its own process, all share fairly
  kBatching = 4,          // requests of one model join a batch, one batch at a time
  kPriority = 5,          // as kFcfs, but the smallest priority number first; not pre-empted
  kEdf = 6,               // as kFcfs, but the earliest deadline (arrival + limit) first
};
std::string_view name_of(Discipline discipline);

struct Device {
  std::string name;
  std::string kind;  // which ModelProfile applies
  Discipline discipline = Discipline::kFcfs;
  int servers = 1;  // equal units behind one queue (kFcfs, kPriority, kEdf)
  std::uint64_t memory_bytes = 0;
  double batch_wait_us = 0;  // kBatching: how long the first request waits for company
  bool may_batch = false;    // a placement may choose between kFcfs and kBatching, and the wait
  Distribution network;      // a request's way there and back, added to every response

  bool operator==(const Device&) const = default;
};

}  // namespace outboard::profile
