// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

namespace outboard {

std::string_view name_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
      return "invalid";
    case ErrorKind::kRefused:
      return "refused";
    case ErrorKind::kOverloaded:
      return "overloaded";
    case ErrorKind::kDisconnected:
      return "disconnected";
    case ErrorKind::kUnimplemented:
      return "unimplemented";
    case ErrorKind::kMaybeExecuted:
      return "maybe executed";
    case ErrorKind::kNotFound:
      return "not found";
    case ErrorKind::kTimeout:
      return "timeout";
    case ErrorKind::kCancelled:
      return "cancelled";
    case ErrorKind::kEngine:
      return "engine";
    case ErrorKind::kInternal:
      return "internal";
  }
  return "unknown";
}

}  // namespace outboard
