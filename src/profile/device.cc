// SPDX-License-Identifier: Apache-2.0
#include "profile/device.h"

namespace outboard::profile {

std::string_view name_of(Discipline discipline) {
  switch (discipline) {
    case Discipline::kFcfs:
      return "fcfs";
    case Discipline::kTimeShared:
      return "time-shared";
    case Discipline::kProcessorSharing:
      return "processor-sharing";
    case Discipline::kBatching:
      return "batching";
    case Discipline::kPriority:
      return "priority";
    case Discipline::kEdf:
      return "edf";
  }
  return "unknown";
}

}  // namespace outboard::profile
