// SPDX-License-Identifier: Apache-2.0
// Tells machines nearby that a server is here (mDNS and DNS-SD, by Avahi's daemon), until it is
// destroyed. A daemon that starts or restarts later is told, too; a name that another server nearby
// has gets a number. Has a thread of Avahi's, which logs.
// Errors: kNotFound without Avahi's library or the system's bus; kInvalid for a name that is none.
#pragma once

#include <memory>
#include <span>

#include "base/result.h"
#include "cli/near.h"
#include "wire/transport/endpoint.h"

namespace outboard::cli {

class Announcement {
 public:
  // `addresses`: where the server listens, with real ports; those of this machine alone are left
  // out, and kInvalid when there are no others. An empty name is the host's.
  static Result<std::unique_ptr<Announcement>> start(Announced announced,
                                                     std::span<const wire::Endpoint> addresses);
  virtual ~Announcement() = default;
};

}  // namespace outboard::cli
