// SPDX-License-Identifier: Apache-2.0
#include "profile/json/link.h"

#include <nlohmann/json.hpp>

#include "profile/json/reader.h"

namespace outboard::profile {
namespace {

constexpr double kMaxDelayMs = 1e9;
constexpr double kMinRate = 1;
constexpr double kMaxRate = 1e15;

Result<Link> direction_from(ObjectReader& parent, const char* key) {
  const nlohmann::json* value = parent.object(key);
  if (value == nullptr) {
    parent.fail(key, "is missing");
    return Link{};
  }
  ObjectReader read(*value, parent.place_of(key));
  Link link;
  link.delay_us = read.number("delay_ms", std::nullopt, 0, kMaxDelayMs) * 1e3;
  if (read.has("rate_bytes_per_s"))
    link.rate_bytes_per_s = read.number("rate_bytes_per_s", std::nullopt, kMinRate, kMaxRate);
  OB_CHECK_OK(read.finish());
  return link;
}

nlohmann::json as_json(const Link& link) {
  nlohmann::json result = {{"delay_ms", link.delay_us / 1e3}};
  if (link.rate_bytes_per_s > 0) result["rate_bytes_per_s"] = link.rate_bytes_per_s;
  return result;
}

}  // namespace

Result<NamedLink> link_from_json(const nlohmann::json& json, const std::string& place) {
  ObjectReader read(json, place);
  NamedLink link;
  link.to = read.text("to");
  OB_TRY(link.link.up, direction_from(read, "up"));
  OB_TRY(link.link.down, direction_from(read, "down"));
  OB_CHECK_OK(read.finish());
  return link;
}

nlohmann::json as_json(const NamedLink& link) {
  return {{"to", link.to}, {"up", as_json(link.link.up)}, {"down", as_json(link.link.down)}};
}

}  // namespace outboard::profile
