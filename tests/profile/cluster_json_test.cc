// SPDX-License-Identifier: Apache-2.0
#include "profile/json/cluster.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace outboard::profile {
namespace {

constexpr const char* kCluster = R"({
  "devices": [{"name": "tpu0", "kind": "edge-tpu", "memory_bytes": 8e6,
               "network_ms": {"atoms_ms": [[4, 0.75], [9, 0.25]]}},
              {"name": "tpu1", "kind": "edge-tpu", "may_batch": true},
              {"name": "gpu0", "kind": "nano", "discipline": "time-shared"}],
  "models": [{"model": "m", "device_kind": "edge-tpu", "service_ms": 62.95, "swap_ms": 19.39,
              "memory_per_application_bytes": 5e7},
             {"model": "n", "device_kind": "nano", "service_ms": {"sample_ms": [3, 4, 5]},
              "batch": {"slope_ms": 1, "base_ms": 2, "max_batch": 8}}],
  "applications": [{"name": "a", "model": "m", "device": "tpu0", "rate_per_s": 3,
                    "limit": {"percentile": 99, "latency_ms": 250}, "pinned": ["tpu0"]},
                   {"name": "c", "model": "m", "rate_per_s": 2, "apart": "cameras", "max_replicas": 2,
                    "share_model": false, "movable": false,
                    "replicas": [{"device": "tpu0", "share": 0.25}, {"device": "tpu1", "share": 0.75}]},
                   {"name": "b", "model": "n", "arrivals_s": [0, 1, 3],
                    "burstiness": {"gap_scv": 3, "idc": [{"window_s": 1, "value": 2}]}}]})";

TEST(ClusterJson, ReadsAndWritesTheSame) {
  auto cluster = cluster_from_text(kCluster, "c.json");
  ASSERT_TRUE(cluster) << cluster.error().message;
  EXPECT_EQ(cluster->devices[0].network.mean_us(), 5250);
  EXPECT_EQ(cluster->devices[2].discipline, Discipline::kTimeShared);
  EXPECT_EQ(cluster->models[0].swap.mean_us(), 19390);
  EXPECT_EQ(cluster->applications[2].rate_per_s, 2.0 / 3);
  auto again = cluster_from_text(as_json(*cluster).dump(), "again");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->applications, cluster->applications);
  EXPECT_EQ(again->devices[0].network.atoms().size(), 2U);
  EXPECT_EQ(as_json(*again), as_json(*cluster));
}

// Each: text to replace in kCluster, its replacement, what the sentence must name.
struct Bad {
  const char* from;
  const char* to;
  const char* sentence;
};

class ClusterJsonBad : public testing::TestWithParam<Bad> {};

TEST_P(ClusterJsonBad, NamesThePlace) {
  std::string text = kCluster;
  const auto at = text.find(GetParam().from);
  ASSERT_NE(at, std::string::npos);
  text.replace(at, std::string(GetParam().from).size(), GetParam().to);
  auto cluster = cluster_from_text(text, "c.json");
  ASSERT_FALSE(cluster);
  EXPECT_EQ(cluster.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(cluster.error().message.find(GetParam().sentence), std::string::npos)
      << cluster.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    All, ClusterJsonBad,
    testing::Values(
        Bad{"\"rate_per_s\": 3", "\"rate_per_s\": -3",
            "applications[0].rate_per_s (-3) must be a number between"},
        Bad{"\"rate_per_s\": 3", "\"rate_per_s\": \"3\"", "applications[0].rate_per_s (\"3\")"},
        Bad{"\"rate_per_s\": 3,", "", "applications[0].rate_per_s is missing"},
        Bad{"\"rate_per_s\": 3", "\"rate\": 3", "applications[0].rate_per_s is missing"},
        Bad{"\"rate_per_s\": 3", "\"rate_per_s\": 3, \"rats\": 4", "applications[0].rats is not a"},
        Bad{"\"model\": \"n\", \"arr", "\"model\": \"x\", \"arr",
            "applications[2].model (x) is not among the models"},
        Bad{"\"device\": \"tpu0\"", "\"device\": \"gpu0\"", "applications[0].device (gpu0) is of"},
        Bad{"\"device\": \"tpu0\"", "\"device\": \"x\"", "applications[0].device (x) is not among"},
        Bad{"\"name\": \"gpu0\"", "\"name\": \"tpu0\"", "devices[2].name (tpu0) is used"},
        Bad{"[\"tpu0\"]", "[\"x\"]", "applications[0].pinned[0] (x) is not among the devices"},
        Bad{"[\"tpu0\"]", "[3]", "applications[0].pinned[0] (3) must be a string"},
        Bad{"\"share\": 0.75", "\"share\": 0.5",
            "must have shares that sum to 1, and theirs is 0.75"},
        Bad{"\"device\": \"tpu1\"", "\"device\": \"tpu0\"",
            "applications[1].replicas[1].device (tpu0) is used by a replica before it"},
        Bad{"\"device\": \"tpu1\"", "\"device\": \"gpu0\"",
            "applications[1].replicas[1].device (gpu0) is of kind (nano)"},
        Bad{"62.95", "-1", "models[0].service_ms (-1) must be a time"},
        Bad{"62.95", "0", "models[0].service_ms (0) must be positive"},
        Bad{"[9, 0.25]", "[9]", "devices[0].network_ms.atoms_ms[1] ([9]) must be a pair"},
        Bad{"[3, 4, 5]", "[]", "models[1].service_ms"},
        Bad{"[3, 4, 5]", "[3, null]", "models[1].service_ms.sample_ms[1] (null)"},
        Bad{"time-shared", "round-robin", "devices[2].discipline (\"round-robin\") must be one of"},
        Bad{"\"percentile\": 99", "\"percentile\": 101", "applications[0].limit.percentile (101)"},
        Bad{"[0, 1, 3]", "[0, 3, 1]", "applications[2].arrivals_s"},
        Bad{"[0, 1, 3]", "[1]", "applications[2].arrivals_s"},
        Bad{"[{\"name\": \"tpu0\"", "[3, {\"name\": \"tpu0\"", "devices[0] (3) must be an object"},
        Bad{"{\n", "", "c.json is not JSON"}));

}  // namespace
}  // namespace outboard::profile
