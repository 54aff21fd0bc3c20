// SPDX-License-Identifier: Apache-2.0
// The published schemes as plans of our form. What each paper says and what had to be assumed is in
// docs/split.md. Pure.
//
//   single   the whole image on the host (or on one other node).
//   HALP     arXiv 2207.11294: two secondaries own the halves, the host the overlap of a few rows.
//   MoDNN    DATE 2017: shares by speed, every layer's result gathered and handed out by the host.
//   DPFP     arXiv 2207.11293: equal shares, fused blocks by dynamic programming, no overlap.
//   tiles    DeepThings, AOFL: fused blocks by dynamic programming, gathered between them by the
//   host.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "split/plan/layout.h"

namespace outboard::split {

enum class Scheme : std::uint8_t { kAuto, kHalp, kModnn, kDpfp, kTiles, kSingle };

std::optional<Scheme> scheme_of(std::string_view name);
std::string_view name_of(Scheme scheme);

// The whole image on one node of the cluster.
Program single(const Graph& graph, const Cluster& cluster, int node);
// Nothing where the cluster has no two secondaries.
std::optional<Program> halp(const Graph& graph, const Cluster& cluster);
Program modnn(const Graph& graph, const Cluster& cluster);
Program dpfp(const Graph& graph, const Cluster& cluster);
Program tiles(const Graph& graph, const Cluster& cluster);

// What each baseline gives; a scheme that cannot be had here is one node.
Program baseline(Scheme scheme, const Graph& graph, const Cluster& cluster);

// Borders between blocks that minimise the sum over blocks of (slowest node's computation +
// exchange, nothing overlapped), for these shares. Result: the units that begin a block.
std::vector<int> fuse_blocks(const Graph& graph, const Cluster& cluster,
                             const std::vector<int>& participants,
                             const std::vector<double>& shares, bool via_host);

// A program from the units that begin a block; units from `host_from` on are the host's alone.
Program make_program(const Graph& graph, const Cluster& cluster, std::vector<int> participants,
                     const std::vector<double>& shares, const std::vector<int>& starts,
                     int host_from);

}  // namespace outboard::split
