// SPDX-License-Identifier: Apache-2.0
// Links as JSON: {"to": "10.0.0.7:7070", "up": {"delay_ms": 0.4, "rate_bytes_per_s": 12.5e6},
// "down": {...}}. A rate that is not known is left out. Faults as in cluster.h.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"
#include "profile/link.h"

namespace outboard::profile {

struct NamedLink {
  std::string to;  // the server's address as the client names it
  LinkPair link;
  bool operator==(const NamedLink&) const = default;
};

Result<NamedLink> link_from_json(const nlohmann::json& json, const std::string& place);
nlohmann::json as_json(const NamedLink& link);

}  // namespace outboard::profile
