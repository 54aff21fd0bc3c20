// SPDX-License-Identifier: Apache-2.0
#include "serve/tokens.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "serve/identity.h"
#include "tests/serve/support.h"

namespace outboard::serve {
namespace {

class TokensTest : public testing::Test {
 protected:
  std::string text() const {
    std::ostringstream content;
    content << std::ifstream(path).rdbuf();
    return content.str();
  }
  static unsigned mode_of(const std::string& file) {
    struct stat status{};
    EXPECT_EQ(::stat(file.c_str(), &status), 0);
    return status.st_mode & 0777;
  }
  TemporaryFolder folder;
  const std::string path = folder / "tokens.json";
};

TEST_F(TokensTest, TheFileHasNoTokenInItAndIsItsOwnersAlone) {
  const std::string token = add_token(path, {"alice", 2, {.sessions = 3}}, 100, 0).value();
  ASSERT_EQ(token.size(), 8u + 1 + 43);
  EXPECT_EQ(text().find(token.substr(9)), std::string::npos);
  EXPECT_NE(text().find(token.substr(0, 8)), std::string::npos);
  EXPECT_EQ(mode_of(path), 0600u);
  const TokenList list = read_tokens(path).value();
  const auto proof = check_token(list, token, 200);
  ASSERT_TRUE(proof) << proof.error().message;
  EXPECT_EQ(proof->tenant, (TenantSpec{"alice", 2, {.sessions = 3}}));
  EXPECT_EQ(proof->token_id, token.substr(0, 8));
}

TEST_F(TokensTest, ATenantMayHaveSeveralAndLoseThem) {
  const std::string first = add_token(path, {"alice", 1, {}}, 100, 0).value(),
                    second = add_token(path, {"alice", 4, {}}, 100, 300).value();
  EXPECT_NE(first, second);
  TokenList list = read_tokens(path).value();
  EXPECT_EQ(list.tenants.size(), 1u);
  EXPECT_EQ(check_token(list, first, 200)->tenant.weight, 4) << "what was said last";
  EXPECT_TRUE(check_token(list, second, 299));
  EXPECT_FALSE(check_token(list, second, 300));
  ASSERT_TRUE(revoke_token(path, first.substr(0, 8)));
  list = read_tokens(path).value();
  EXPECT_FALSE(check_token(list, first, 200));
  EXPECT_TRUE(check_token(list, second, 200));
  for (const std::string& wrong : {std::string(), std::string("."), first.substr(0, 9),
                                   second.substr(0, second.size() - 1), second.substr(9)})
    EXPECT_FALSE(check_token(list, wrong, 200)) << wrong;
}

TEST_F(TokensTest, AFileThatIsNoneIsASentence) {
  for (const char* wrong : {"", "{", "[]", "{\"tenants\": [], \"tokens\": 3}",
                            "{\"tenants\": [{\"name\": \"../x\"}], \"tokens\": []}",
                            "{\"tenants\": [{\"name\": \"x\", \"weight\": 0}], \"tokens\": []}",
                            "{\"tenants\": [], \"tokens\": [{\"id\": 1}]}"}) {
    std::ofstream(path) << wrong;
    EXPECT_FALSE(read_tokens(path)) << wrong;
  }
  EXPECT_FALSE(add_token(path, {"alice", 1, {}}, 0, 0)) << "and is not written over";
  std::filesystem::remove(path);
  EXPECT_TRUE(read_tokens(path)->tokens.empty());
  EXPECT_FALSE(add_token(path, {"local", 1, {}}, 0, 0));
  EXPECT_FALSE(add_token(path, {"a", -1, {}}, 0, 0));
}

TEST_F(TokensTest, AServerSeesWhatChanges) {
  Tokens tokens(path);
  const std::string token = add_token(path, {"alice", 1, {}}, 100, 0).value();
  EXPECT_TRUE(tokens.check(token));
  EXPECT_TRUE(tokens.admits(token.substr(0, 8)));
  ASSERT_TRUE(revoke_token(path, token.substr(0, 8)));
  EXPECT_TRUE(tokens.refresh());
  EXPECT_FALSE(tokens.refresh());
  EXPECT_FALSE(tokens.admits(token.substr(0, 8)));
  // Also what somebody's token was the first to find.
  const std::string third = add_token(path, {"carol", 1, {}}, 100, 0).value();
  EXPECT_TRUE(tokens.check(third));
  EXPECT_TRUE(tokens.refresh());
  EXPECT_FALSE(tokens.refresh());
  // A file that cannot be read leaves things as they are.
  const std::string other = add_token(path, {"bob", 1, {}}, 100, 0).value();
  ASSERT_TRUE(tokens.check(other));
  std::ofstream(path) << "{";
  EXPECT_TRUE(tokens.check(other));
}

TEST_F(TokensTest, AnIdentityIsMadeOnceAndKept) {
  const std::string state = folder / "state";
  const auto made = load_or_make_identity(state), again = load_or_make_identity(state);
  ASSERT_TRUE(made && again);
  EXPECT_EQ(made->certificate_pem, again->certificate_pem);
  EXPECT_EQ(mode_of(state + "/key.pem"), 0600u);
  std::filesystem::remove(state + "/key.pem");
  EXPECT_FALSE(load_or_make_identity(state)) << "half an identity is not replaced unasked";
  ASSERT_TRUE(write_reach(state, {{"a:1", "b:2"}, "ff"}));
  EXPECT_EQ(read_reach(state)->addresses, (std::vector<std::string>{"a:1", "b:2"}));
  EXPECT_EQ(read_reach(state)->fingerprint, "ff");
}

}  // namespace
}  // namespace outboard::serve
