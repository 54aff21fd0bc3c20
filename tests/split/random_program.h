// SPDX-License-Identifier: Apache-2.0
// Clusters and random programs for the tests of plans and of their execution.
#pragma once

#include <random>

#include "split/plan/plan.h"

namespace outboard::split::testing {

Cluster equal_nodes(int n, double flops = 1e9, double delay_us = 20, double rate_bits_per_s = 1e9);

// A program with random cuts in every block, random blocks and pieces.
Program random_program(const Graph& g, const Cluster& cluster, std::mt19937_64& random);

}  // namespace outboard::split::testing
