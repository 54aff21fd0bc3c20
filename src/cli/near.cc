// SPDX-License-Identifier: Apache-2.0
#include "cli/near.h"

#include <algorithm>
#include <cctype>
#include <tuple>

namespace outboard::cli {
namespace {

constexpr std::size_t kNameBytes = 63, kValueBytes = 64;

std::string_view value_of(std::span<const std::string> text, std::string_view key) {
  for (const std::string& entry : text) {
    const std::string_view view = entry;
    const auto equals = view.find('=');
    if (equals != std::string_view::npos && view.substr(0, equals) == key)
      return view.substr(equals + 1);
  }
  return {};
}

// Bytes of the UTF-8 character at the beginning that may be shown; 0: none.
std::size_t printable_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || size > text.size()) return 0;
  for (std::size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  // Overlong forms, surrogates, what is beyond Unicode; C1 controls; marks that turn the direction
  // of text or hide.
  if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f) ||
      (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f))
    return 0;
  if (first == 0xc2 && byte(1) < 0xa0) return 0;
  if (first == 0xe2 && (byte(1) == 0x80 || byte(1) == 0x81) && byte(2) >= 0x8b) {
    const bool is_mark =
        byte(1) == 0x81 ? byte(2) >= 0xa0 : byte(2) <= 0x8f || (byte(2) >= 0xa8 && byte(2) <= 0xae);
    if (is_mark) return 0;
  }
  return size;
}

bool equal_names(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// 0: IPv4; 1: global IPv6; 2: IPv6 of one link alone.
int address_rank(const wire::Endpoint& endpoint) {
  if (endpoint.host.find(':') == std::string::npos) return 0;
  return endpoint.host.find('%') == std::string::npos ? 1 : 2;
}

}  // namespace

std::vector<std::string> announcement_text(const Announced& announced) {
  std::vector<std::string> text{"txtvers=1", "version=" + announced.version,
                                "device=" + announced.device};
  if (announced.identity) text.push_back("id=" + announced.identity->hex());
  return text;
}

std::string printable(std::string_view text, std::size_t max_bytes) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t size = printable_bytes(text);
    const std::string_view piece = size == 0 ? "?" : text.substr(0, size);
    if (shown.size() + piece.size() > max_bytes) break;
    shown += piece;
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return shown;
}

Result<NearServer> parse_announcement(std::string_view name, wire::Endpoint endpoint,
                                      std::span<const std::string> text) {
  NearServer server{.name = printable(name, kNameBytes),
                    .endpoint = std::move(endpoint),
                    .device = printable(value_of(text, "device"), kValueBytes),
                    .version = printable(value_of(text, "version"), kValueBytes),
                    .identity = std::nullopt};
  const std::string_view version = value_of(text, "txtvers");
  if (version != "1")
    return error(ErrorKind::kInvalid,
                 "the announcement of the server ({}) has the version ({}), expected 1",
                 server.name, printable(version, kValueBytes));
  const std::string_view identity = value_of(text, "id");
  if (identity.empty()) return server;
  server.identity = Sha256::from_hex(identity);
  if (!server.identity)
    return error(ErrorKind::kInvalid,
                 "the identity ({}) that the server ({}) announces must be of 64 hexadecimal "
                 "digits",
                 printable(identity, 2 * kValueBytes), server.name);
  return server;
}

std::vector<NearServer> without_repetitions(std::vector<NearServer> heard) {
  const auto key = [](const NearServer& s) {
    return std::tuple(std::string_view(s.name), s.identity, address_rank(s.endpoint),
                      std::string_view(s.endpoint.host), s.endpoint.port);
  };
  std::ranges::sort(heard, [&](const auto& a, const auto& b) { return key(a) < key(b); });
  const auto same = [](const NearServer& a, const NearServer& b) {
    return a.name == b.name && a.identity == b.identity;
  };
  heard.erase(std::ranges::unique(heard, same).begin(), heard.end());
  return heard;
}

NearMatch match_near(const NearServer& server, std::span<const Held> held) {
  const Held* match = nullptr;
  const Held* namesake = nullptr;
  for (const Held& known : held) {
    const bool is_namesake = equal_names(known.name, server.name);
    if (is_namesake) namesake = &known;
    if (server.identity && known.access.identity == server.identity &&
        !known.access.token.empty() && (match == nullptr || is_namesake))
      match = &known;
  }
  if (match != nullptr) return {match, ""};
  if (namesake == nullptr || !namesake->access.identity) return {};
  return {nullptr, fmt::format("the server nearby at ({}) calls itself ({}), but its identity ({}) "
                               "is not the one that is known by this name ({}): it is not used",
                               server.endpoint.to_string(), server.name,
                               server.identity ? server.identity->hex().substr(0, 12) : "none",
                               namesake->access.identity->hex().substr(0, 12))};
}

}  // namespace outboard::cli
