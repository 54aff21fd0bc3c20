// SPDX-License-Identifier: Apache-2.0
#include "profile/run_cost.h"

#include <algorithm>

namespace outboard::profile {

RunCost local_cost(const Engine& device) {
  RunCost cost;
  cost.queue_us = device.queue_us;
  cost.compute_us = device.compute_us;
  return cost;
}

RunCost remote_cost(const Engine& server, const LinkPair& link, const RunSize& size,
                    double call_us) {
  RunCost cost;
  cost.overhead_us = call_us;
  cost.send_us = transfer_us(link.up, size.request_bytes);
  cost.queue_us = server.queue_us;
  cost.compute_us = server.compute_us;
  cost.receive_us = transfer_us(link.down, size.reply_bytes);
  return cost;
}

double queue_wait_us(std::uint32_t ahead, std::uint32_t servers, double service_us) {
  servers = std::max(servers, 1u);
  if (ahead < servers) return 0;
  const std::uint32_t must_end = ahead - servers + 1;
  const std::uint32_t rounds = (must_end - 1) / servers;
  const std::uint32_t rank = must_end - rounds * servers;
  return service_us * (rounds + static_cast<double>(rank) / (servers + 1.0));
}

}  // namespace outboard::profile
