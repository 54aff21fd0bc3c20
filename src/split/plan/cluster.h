// SPDX-License-Identifier: Apache-2.0
// The nodes that may share one inference and the links between them. Plain values.
#pragma once

#include <vector>

#include "profile/link.h"
#include "profile/rows.h"

namespace outboard::split {

struct Cluster {
  std::vector<profile::NodeRows> nodes;
  int host = 0;                      // holds the image and wants the result
  std::vector<profile::Link> links;  // from * nodes.size() + to

  int size() const { return static_cast<int>(nodes.size()); }
  const profile::NodeRows& node(int i) const { return nodes[static_cast<std::size_t>(i)]; }
  const profile::Link& link(int from, int to) const {
    return links[static_cast<std::size_t>(from) * nodes.size() + static_cast<std::size_t>(to)];
  }
};

}  // namespace outboard::split
