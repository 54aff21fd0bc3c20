// SPDX-License-Identifier: Apache-2.0
// What a node needs for rows, as JSON: {"name": "a", "flops_per_s": 1e11, "memory_bytes_per_s":
// 2e10, "call_us": 40, "memory_bytes": 8e9, "busy_ms": 0, "units": {"conv1": {"rows": [1, 2, 8],
// "time_us": [50, 90, 350]}}}. Faults as in cluster.h.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"
#include "profile/json/reader.h"
#include "profile/rows.h"

namespace outboard::profile {

// The fields of a node; the caller may read others of the object and then calls finish().
Result<NodeRows> node_rows_fields(ObjectReader& read);
Result<NodeRows> node_rows_from_json(const nlohmann::json& json, const std::string& place);
nlohmann::json as_json(const NodeRows& node);

}  // namespace outboard::profile
