// SPDX-License-Identifier: Apache-2.0
#include "profile/rows.h"

#include <algorithm>

namespace outboard::profile {

double RowCurve::at(double n) const {
  if (rows.empty() || n <= 0) return 0;
  if (rows.size() == 1) return time_us[0] * n / rows[0];
  std::size_t i = 1;
  while (i + 1 < rows.size() && rows[i] < n) ++i;
  const double slope = (time_us[i] - time_us[i - 1]) / (rows[i] - rows[i - 1]);
  return std::max(0.0, time_us[i] + slope * (n - rows[i]));
}

double work_us(const NodeRows& node, double flops, double bytes) {
  const double arithmetic = flops / node.flops_per_s * 1e6;
  const double traffic = node.memory_bytes_per_s > 0 ? bytes / node.memory_bytes_per_s * 1e6 : 0;
  return std::max(arithmetic, traffic);
}

RowCurve without_call(RowCurve curve, double call_us) {
  for (double& t : curve.time_us) t = std::max(0.0, t - call_us);
  return curve;
}

}  // namespace outboard::profile
