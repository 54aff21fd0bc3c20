// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/config.h"

namespace outboard::intercept {

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
    if (shared != "on" && shared != "off") {
      return error(ErrorKind::kInvalid, "OUTBOARD_SHARED_MEMORY ({}) must be on or off", shared);
    }
    config.shared_memory = shared == "on";
  }
  if (const std::string coding = text("OUTBOARD_CODING"); !coding.empty()) {
    OB_TRY(config.coding, wire::parse_coding_mode(coding));
  }
  config.summary = text("OUTBOARD_SUMMARY") == "1";
  config.json_path = text("OUTBOARD_JSON");
  config.trace_path = text("OUTBOARD_TRACE");
  return config;
}

}  // namespace outboard::intercept
