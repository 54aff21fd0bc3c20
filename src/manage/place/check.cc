// SPDX-License-Identifier: Apache-2.0
#include "manage/place/check.h"

#include <cmath>
#include <limits>

namespace outboard::manage {

double allowed_us(const LoadPart& part, const Promise& promise) {
  const double limit_ms = part.application->limit.latency_ms;
  if (limit_ms <= 0) return std::numeric_limits<double>::infinity();
  return limit_ms * 1e3 * (1 - promise.margin);
}

Finding check_quickly(const Load& load, const Promise& promise) {
  Finding finding;
  const std::uint64_t needed = memory_bytes(load);
  const double available = static_cast<double>(load.device->memory_bytes) * promise.memory_fraction;
  // A device whose memory nobody stated is not limited by it.
  if (load.device->memory_bytes > 0 && static_cast<double>(needed) > available) {
    finding.breach = Breach::kMemory;
    finding.by = static_cast<double>(needed) - available;
    return finding;
  }
  const double busy = utilisation(load);
  if (busy > promise.utilisation) {
    finding.breach = Breach::kUtilisation;
    finding.by = busy;
  }
  return finding;
}

Finding check_bounds(const Load& load, Judge& judge, const Promise& promise, bool likely) {
  Finding finding = check_quickly(load, promise);
  if (!finding.holds() || load.parts.empty()) return finding;
  const auto ranges = judge.screen(load);
  if (!ranges) {
    finding.breach = Breach::kNoModel;
    finding.detail = ranges.error().message;
    return finding;
  }
  for (std::size_t i = 0; i < load.parts.size(); ++i) {
    const double allowed = allowed_us(load.parts[i], promise);
    const Range& range = (*ranges)[i];
    const double least = likely ? std::max(range.lower_us, range.likely_us) : range.lower_us;
    const double beyond = least - allowed;
    if (beyond > finding.by) {
      finding.breach = Breach::kLatency;
      finding.part = i;
      finding.by = beyond;
    }
  }
  return finding;
}

Finding check(const Load& load, Judge& judge, const Promise& promise) {
  Finding finding = check_quickly(load, promise);
  if (!finding.holds() || load.parts.empty()) return finding;
  auto verdict = judge.judge(load);
  if (!verdict) {
    finding.breach = Breach::kNoModel;
    finding.detail = std::move(verdict).error().message;
    return finding;
  }
  finding.verdict = *std::move(verdict);
  for (std::size_t i = 0; i < load.parts.size(); ++i) {
    const Reply& reply = finding.verdict.parts[i];
    const double allowed = allowed_us(load.parts[i], promise);
    if (std::isinf(allowed)) continue;
    const double beyond = reply.percentile_us + reply.error_us - allowed;
    // Not `beyond > 0`: a model that answers with a NaN holds nothing.
    if (beyond <= 0) continue;
    if (finding.breach == Breach::kNone || beyond > finding.by) {
      finding.breach = Breach::kLatency;
      finding.part = i;
      finding.by = beyond;
    }
  }
  return finding;
}

}  // namespace outboard::manage
