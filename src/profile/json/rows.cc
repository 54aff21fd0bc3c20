// SPDX-License-Identifier: Apache-2.0
#include "profile/json/rows.h"

#include <nlohmann/json.hpp>

namespace outboard::profile {
namespace {

Result<RowCurve> curve_from_json(const nlohmann::json& json, const std::string& place) {
  ObjectReader read(json, place);
  RowCurve curve{read.numbers("rows"), read.numbers("time_us")};
  if (curve.rows.empty() || curve.rows.size() != curve.time_us.size())
    read.fail("time_us", "must have as many numbers as rows, and at least one");
  for (std::size_t i = 0; i < curve.rows.size(); ++i) {
    if (curve.rows[i] <= (i == 0 ? 0.0 : curve.rows[i - 1]))
      read.fail("rows", "must ascend from 1 row");
    if (i < curve.time_us.size() && curve.time_us[i] < 0)
      read.fail("time_us", "must not be negative");
  }
  OB_CHECK_OK(read.finish());
  return curve;
}

}  // namespace

Result<NodeRows> node_rows_fields(ObjectReader& read) {
  NodeRows node;
  node.name = read.text("name");
  node.flops_per_s = read.number("flops_per_s", std::nullopt, 1, 1e18);
  node.memory_bytes_per_s = read.number("memory_bytes_per_s", 0.0, 0, 1e16);
  node.call_us = read.number("call_us", 0.0, 0, 1e9);
  node.memory_bytes = read.number("memory_bytes", 0.0, 0, 1e16);
  node.busy_us = read.number("busy_ms", 0.0, 0, 1e9) * 1e3;
  if (const auto* units = read.object("units"); units && units->is_object())
    for (const auto& [name, json] : units->items()) {
      OB_TRY(node.units[name], curve_from_json(json, read.place_of("units") + "." + name));
    }
  return node;
}

Result<NodeRows> node_rows_from_json(const nlohmann::json& json, const std::string& place) {
  ObjectReader read(json, place);
  auto node = node_rows_fields(read);
  OB_CHECK_OK(read.finish());
  return node;
}

nlohmann::json as_json(const NodeRows& node) {
  nlohmann::json out = {
      {"name", node.name}, {"flops_per_s", node.flops_per_s}, {"call_us", node.call_us}};
  if (node.memory_bytes_per_s > 0) out["memory_bytes_per_s"] = node.memory_bytes_per_s;
  if (node.memory_bytes > 0) out["memory_bytes"] = node.memory_bytes;
  if (node.busy_us > 0) out["busy_ms"] = node.busy_us / 1e3;
  for (const auto& [name, curve] : node.units)
    out["units"][name] = {{"rows", curve.rows}, {"time_us", curve.time_us}};
  return out;
}

}  // namespace outboard::profile
