// SPDX-License-Identifier: Apache-2.0
// Announcements as anybody on the link may send them, and which of them a token is shown to.
#include "cli/near.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

namespace outboard::cli {
namespace {

Sha256 identity(int number) {
  Sha256 hash;
  hash.bytes[0] = static_cast<std::byte>(number);
  return hash;
}

wire::Endpoint at(std::string host, std::uint16_t port = 7070) {
  wire::Endpoint endpoint;
  endpoint.host = std::move(host);
  endpoint.port = port;
  return endpoint;
}

Held held(std::string name, std::optional<Sha256> id, std::string token = "1.x") {
  Held known{std::move(name), "/access", wire::Access(at("10.0.0.9"))};
  known.access.identity = id;
  known.access.token = std::move(token);
  return known;
}

NearServer near(std::string name, std::optional<Sha256> id, std::string host = "10.0.0.1") {
  return {std::move(name), at(std::move(host)), "cpu", "0.1.0", id};
}

TEST(Near, AnnouncementIsReadBack) {
  const Announced announced{"edge", "0.1.0", "cuda:0", identity(7)};
  const auto server = parse_announcement("edge", at("10.0.0.1"), announcement_text(announced));
  ASSERT_TRUE(server) << server.error().message;
  EXPECT_EQ("edge", server->name);
  EXPECT_EQ("cuda:0", server->device);
  EXPECT_EQ("0.1.0", server->version);
  EXPECT_EQ(identity(7), server->identity);
  const auto plain = parse_announcement("edge", at("10.0.0.1"),
                                        announcement_text({"edge", "0.1.0", "cpu", std::nullopt}));
  ASSERT_TRUE(plain);
  EXPECT_FALSE(plain->identity);
}

TEST(Near, AnnouncementThatMakesNoSense) {
  for (const std::vector<std::string>& text :
       {std::vector<std::string>{}, {"txtvers=2"}, {"txtvers=1", "id=12"}, {"txtvers"}}) {
    const auto server = parse_announcement("edge", at("10.0.0.1"), text);
    ASSERT_FALSE(server);
    EXPECT_EQ(ErrorKind::kInvalid, server.error().kind);
  }
}

TEST(Near, NothingForATerminalButText) {
  EXPECT_EQ("?[31mred?", printable("\x1b[31mred\n", 64));
  EXPECT_EQ("B\xc3\xbcro", printable("B\xc3\xbcro", 64));
  EXPECT_EQ("a??", printable("a\xc3\xff", 64));
  EXPECT_EQ("???", printable("\xed\xa0\x80", 64));  // a surrogate
  EXPECT_EQ("???b", printable("\xe2\x80\xae"
                              "b",
                              64));             // right to left from here
  EXPECT_EQ("??", printable("\xc2\x9b", 64));   // a control sequence in one character
  EXPECT_EQ("ab", printable("ab\xc3\xbc", 3));  // no half character
}

RC_GTEST_PROP(Near, AnyBytes, (const std::string& name, const std::vector<std::string>& text)) {
  auto entries = text;
  entries.emplace_back("txtvers=1");
  const auto server = parse_announcement(name, at("10.0.0.1"), entries);
  if (!server) return;
  for (const std::string* shown : {&server->name, &server->device, &server->version}) {
    RC_ASSERT(shown->size() <= 64u);
    RC_ASSERT(std::ranges::none_of(*shown, [](unsigned char c) { return c < 0x20 || c == 0x7f; }));
    RC_ASSERT(printable(*shown, 64) == *shown);
  }
}

TEST(Near, OneRowForAServerThatIsHeardSeveralTimes) {
  const auto rows = without_repetitions(
      {near("edge", identity(1), "fe80::1%eth0"), near("edge", identity(1), "fd00::1"),
       near("edge", identity(1), "10.0.0.2"), near("edge", identity(2), "10.0.0.3"),
       near("bench", identity(1), "10.0.0.2")});
  ASSERT_EQ(3u, rows.size());
  EXPECT_EQ("bench", rows[0].name);
  EXPECT_EQ("10.0.0.2", rows[1].endpoint.host);
  EXPECT_EQ("10.0.0.3", rows[2].endpoint.host);
}

TEST(Near, ATokenIsForAnIdentityAndNotForAName) {
  const std::vector<Held> known = {held("edge", identity(1)), held("lab", identity(2)),
                                   held("spent", identity(3), "")};
  EXPECT_EQ(known.data(), match_near(near("edge", identity(1)), known).held);
  EXPECT_EQ(known.data() + 1, match_near(near("renamed", identity(2)), known).held);
  EXPECT_EQ(nullptr, match_near(near("other", identity(9)), known).held);
  EXPECT_EQ("", match_near(near("other", identity(9)), known).refusal);
  EXPECT_EQ(nullptr, match_near(near("spent", identity(3)), known).held);
}

TEST(Near, AKnownNameWithAnotherIdentityIsRefused) {
  const std::vector<Held> known = {held("edge", identity(1))};
  for (const auto& id : {std::optional(identity(9)), std::optional<Sha256>()}) {
    const NearMatch match = match_near(near("EDGE", id), known);
    EXPECT_EQ(nullptr, match.held);
    EXPECT_NE(std::string::npos, match.refusal.find("is not the one that is known"));
    EXPECT_NE(std::string::npos, match.refusal.find("EDGE"));
  }
}

TEST(Near, TheNamesakeAmongSeveralTokensForOneServer) {
  const std::vector<Held> known = {held("alice", identity(1)), held("edge", identity(1)),
                                   held("zoe", identity(1))};
  EXPECT_EQ("edge", match_near(near("edge", identity(1)), known).held->name);
  EXPECT_EQ("alice", match_near(near("other", identity(1)), known).held->name);
}

}  // namespace
}  // namespace outboard::cli
