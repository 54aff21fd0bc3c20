// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/config.h"

#include <charconv>
#include <optional>

namespace outboard::intercept {
namespace {

template <typename Number>
std::optional<Number> number_in(std::string_view text) {
  Number value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<bool> parse_switch(std::string_view name, std::string_view text) {
  if (text == "on") return true;
  if (text == "off") return false;
  return error(ErrorKind::kInvalid, "{} ({}) must be on or off", name, text);
}

}  // namespace

Result<double> parse_deadline_ms(std::string_view text) {
  constexpr double kMost = 86'400'000;
  const auto value = number_in<double>(text);
  if (value && *value > 0 && *value <= kMost) return *value;
  return error(ErrorKind::kInvalid,
               "deadline ({}) must be a number of milliseconds, more than 0 and at most {:.0f}",
               text, kMost);
}

Result<double> parse_share(std::string_view text) {
  const auto value = number_in<double>(text);
  if (value && *value >= 0 && *value <= 1) return *value;
  return error(ErrorKind::kInvalid, "share of Runs to verify ({}) must be a number from 0 to 1",
               text);
}

Result<Mode> parse_mode(std::string_view text) {
  if (text == "auto") return Mode::kAuto;
  if (text == "remote") return Mode::kRemote;
  if (text == "local") return Mode::kLocal;
  return error(ErrorKind::kInvalid, "mode ({}) must be auto, remote or local", text);
}

Result<wire::Spool> parse_spool(std::string_view text) {
  if (text == "disk") return wire::Spool::kDisk;
  if (text == "memory") return wire::Spool::kMemory;
  if (text == "none") return wire::Spool::kNone;
  return error(ErrorKind::kInvalid, "spool ({}) must be disk, memory or none", text);
}

Result<Config> read_config(const std::function<const char*(const char*)>& lookup) {
  Config config;
  const auto text = [&](const char* name) {
    const char* value = lookup(name);
    return std::string(value == nullptr ? "" : value);
  };
  auto servers = wire::parse_servers(text("OUTBOARD_SERVERS"));
  if (!servers)
    return tl::make_unexpected(std::move(servers).error().while_doing("reading OUTBOARD_SERVERS"));
  config.servers = std::move(*servers);
  if (const std::string mode = text("OUTBOARD_MODE"); !mode.empty()) {
    OB_TRY(config.mode, parse_mode(mode));
  }
  if (const std::string spool = text("OUTBOARD_SPOOL"); !spool.empty()) {
    OB_TRY(config.spool, parse_spool(spool));
  }
  if (const std::string shared = text("OUTBOARD_SHARED_MEMORY"); !shared.empty()) {
    OB_TRY(config.shared_memory, parse_switch("OUTBOARD_SHARED_MEMORY", shared));
  }
  if (const std::string coding = text("OUTBOARD_CODING"); !coding.empty()) {
    OB_TRY(config.coding, wire::parse_coding_mode(coding));
  }
  if (const std::string hedging = text("OUTBOARD_HEDGING"); !hedging.empty()) {
    OB_TRY(config.hedging, parse_switch("OUTBOARD_HEDGING", hedging));
  }
  if (const std::string deadline = text("OUTBOARD_DEADLINE_MS"); !deadline.empty()) {
    OB_TRY(config.deadline_ms, parse_deadline_ms(deadline));
  }
  if (const std::string share = text("OUTBOARD_VERIFY"); !share.empty()) {
    OB_TRY(config.verify, parse_share(share));
  }
  config.verify_strict = text("OUTBOARD_VERIFY_STRICT") == "1";
  if (const std::string seed = text("OUTBOARD_SEED"); !seed.empty()) {
    const auto value = number_in<std::uint64_t>(seed);
    if (!value || *value == 0)
      return error(ErrorKind::kInvalid, "OUTBOARD_SEED ({}) must be a whole number, at least 1",
                   seed);
    config.seed = *value;
  }
  config.summary = text("OUTBOARD_SUMMARY") == "1";
  config.json_path = text("OUTBOARD_JSON");
  config.trace_path = text("OUTBOARD_TRACE");
  return config;
}

}  // namespace outboard::intercept
