// SPDX-License-Identifier: Apache-2.0
// A cluster as a JSON file (docs/split.md has the fields):
//
//   {"host": "a",
//    "nodes": [{"name": "a", "flops_per_s": 1.41e12, "memory_bytes_per_s": 137e9, "call_us": 10},
//              {"name": "b", "profile": "b.json"}],
//    "link": {"delay_us": 50, "rate_bits_per_s": 40e9},
//    "links": [{"from": "a", "to": "b", "delay_us": 500, "rate_bits_per_s": 1e9,
//               "varies": {"sd": 0.3, "coherence_ms": 20, "seed": 1}}]}
//
// and a channel between the user and the host: {"rate_bits_per_s": 100e6, "varies": {...}} or
// {"rate_bits_per_s": 100e6, "trace": {"start_ms": [0, 5], "factor": [1, 0.4], "period_ms": 20}}.
// Every fault is a sentence with its place: `nodes[1].flops_per_s (0) must be ...`.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "split/plan/cluster.h"
#include "split/simulate/rate.h"

namespace outboard::split {

struct ClusterFile {
  Cluster cluster;
  std::vector<RateTrace> rates;        // by link; empty traces are constant
  std::vector<std::string> addresses;  // by node, where its server listens; may be empty
  std::vector<double> paces;           // by node: emulate a node of this share of a core; 0: do not
  // Whether the file gives a profile of the node, and anything of the link: what it does not give
  // can be measured.
  std::vector<char> measured_nodes, measured_links;
};

// A node's "profile" is looked for beside the file.
// `addresses_only`: nodes and links without figures are allowed, for somebody who will measure.
Result<ClusterFile> read_cluster(const std::string& path, bool addresses_only = false);
Result<ClusterFile> cluster_from_text(std::string_view text, const std::string& path,
                                      bool addresses_only = false);

struct Channel {
  double rate_bytes_per_s = 0;
  RateTrace trace;
};
Result<Channel> read_channel(const std::string& path);

// P(uplink of `size_bytes` + inference <= deadline) over `samples` equally spaced starts.
double service_reliability(const Channel& channel, double size_bytes, double inference_us,
                           double deadline_us, int samples = 10000);

}  // namespace outboard::split
