// SPDX-License-Identifier: Apache-2.0
// Clusters, devices, model profiles and applications as JSON (docs/queueing.md has an example):
//
//   {"devices": [{"name": "tpu0", "kind": "edge-tpu", "discipline": "fcfs", "memory_bytes": 8e6}],
//    "models": [{"model": "inception_v3", "device_kind": "edge-tpu", "service_ms": 62.95,
//                "swap_ms": 19.39, "memory_bytes": 23.4e6}],
//    "applications": [{"name": "gate", "model": "inception_v3", "device": "tpu0", "rate_per_s": 4,
//                      "limit": {"percentile": 95, "latency_ms": 250}}]}
//
// Every fault is a sentence with its place, `applications[0].rate_per_s (-4) must be ...`; a field
// nobody knows is a fault, too (it is a typing error more often than not).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "profile/cluster.h"

namespace outboard::profile {

Result<Device> device_from_json(const nlohmann::json& json, const std::string& place);
Result<ModelProfile> model_from_json(const nlohmann::json& json, const std::string& place);
Result<Application> application_from_json(const nlohmann::json& json, const std::string& place);

// Also checks names: each is unique; a device or model that an application names exists, the latter
// on the kind of its device where it has one. Rates are positive and finite (a trace gives its
// own), limits in range. `name` is the file's.
Result<Cluster> cluster_from_text(std::string_view text, std::string_view name);

nlohmann::json as_json(const Device& device);
nlohmann::json as_json(const ModelProfile& model);
nlohmann::json as_json(const Application& application);
nlohmann::json as_json(const Cluster& cluster);

}  // namespace outboard::profile
