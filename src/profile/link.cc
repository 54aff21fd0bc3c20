// SPDX-License-Identifier: Apache-2.0
#include "profile/link.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

namespace outboard::profile {
namespace {

// Reorders `values`, which must not be empty.
double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace

double transfer_us(const Link& link, std::uint64_t size_bytes) {
  if (link.rate_bytes_per_s <= 0) return link.delay_us;
  return link.delay_us + static_cast<double>(size_bytes) / link.rate_bytes_per_s * 1e6;
}

Result<Link> fit_echoes(std::span<const Echo> echoes) {
  std::map<std::uint64_t, std::vector<double>> by_size;
  for (const Echo& echo : echoes) {
    if (!std::isfinite(echo.round_trip_us) || echo.round_trip_us < 0)
      return error(ErrorKind::kInvalid, "the round trip ({}) of an echo must be a time in us",
                   echo.round_trip_us);
    by_size[echo.size_bytes].push_back(echo.round_trip_us);
  }
  if (by_size.size() < 2)
    return error(ErrorKind::kInvalid,
                 "a link is fitted to echoes of two sizes at least; there were ({})",
                 by_size.size());

  std::vector<std::pair<double, double>> points;  // bytes, round trip
  points.reserve(by_size.size());
  for (auto& [size, times] : by_size) points.emplace_back(static_cast<double>(size), median(times));
  std::vector<double> slopes;
  for (std::size_t i = 0; i < points.size(); ++i)
    for (std::size_t j = i + 1; j < points.size(); ++j)
      slopes.push_back((points[j].second - points[i].second) / (points[j].first - points[i].first));
  const double slope = std::max(0.0, median(slopes));
  std::vector<double> rests;
  rests.reserve(points.size());
  for (const auto& [size, time] : points) rests.push_back(time - slope * size);
  Link link;
  link.delay_us = std::max(0.0, median(rests) / 2);
  link.rate_bytes_per_s = slope > 0 ? 2e6 / slope : 0;
  return link;
}

double median_rate_bytes_per_s(std::span<const Transfer> transfers) {
  std::vector<double> rates;
  for (const Transfer& t : transfers)
    if (t.size_bytes > 0 && t.duration_us > 0)
      rates.push_back(static_cast<double>(t.size_bytes) / t.duration_us * 1e6);
  return rates.empty() ? 0 : median(rates);
}

}  // namespace outboard::profile
