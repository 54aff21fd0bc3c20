// SPDX-License-Identifier: Apache-2.0
#include "wire/access.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace outboard::wire {
namespace {

const std::string kId(64, 'a');

TEST(Access, ALoginLineComesBackAsItWas) {
  const std::string line = "outboard://edge.example:7071?id=" + kId + "#1a2b3c4d.secret-_";
  const auto access = parse_login_line("  " + line + "\n");
  ASSERT_TRUE(access) << access.error().message;
  EXPECT_EQ(access->endpoint.host, "edge.example");
  EXPECT_EQ(access->endpoint.port, 7071);
  EXPECT_EQ(access->identity->hex(), kId);
  EXPECT_EQ(access->token, "1a2b3c4d.secret-_");
  EXPECT_EQ(login_line(*access), line);
  EXPECT_EQ(parse_login_line("outboard://[::1]:80?id=" + kId + "#t")->endpoint.host, "::1");
  EXPECT_FALSE(parse_login_line("outboard://h:1#t")->identity) << "with authorities of one's own";
}

TEST(Access, AWrongLineIsASentenceWithoutTheToken) {
  const std::string secret = "s3cr3t";
  for (const std::string& line :
       {"h:1#" + secret, "outboard://h:1?id=" + kId, "outboard://h:1?id=12#" + secret,
        "outboard://h:99999?id=" + kId + "#" + secret, "outboard://h:1?di=" + kId + "#" + secret,
        "outboard://?id=" + kId + "#" + secret, "outboard://h:1?id=" + kId + "#" + secret + " x",
        "https://h:1#" + secret, std::string(), "outboard://h:1?id=" + kId + "#"}) {
    const auto access = parse_login_line(line);
    ASSERT_FALSE(access) << line;
    EXPECT_EQ(access.error().message.find(secret), std::string::npos) << access.error().message;
  }
}

TEST(Access, AnAccessFileComesBackAsItWas) {
  Access access(*parse_endpoint("h:1"));
  access.identity = Sha256::from_hex(kId);
  access.token = "t.t";
  EXPECT_EQ(parse_access_file(access_file_text(access), "f").value(), access);
  Access own(*parse_endpoint("h:1"));
  own.ca_path = "/etc/a ca.pem";
  EXPECT_EQ(parse_access_file(access_file_text(own), "f").value(), own);
  for (const char* text :
       {"", "address h:1\n", "id a\n", "address h:1\nid 12\n", "token\n", "x y\n"})
    EXPECT_FALSE(parse_access_file(text, "f")) << text;
}

TEST(Access, ServersOfTheEnvironment) {
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("outboard-access-{}", ::getpid()));
  std::ofstream(path) << "address h:1\nid " << kId << "\ntoken t\n";
  const auto servers =
      parse_servers("127.0.0.1:1,,access:" + path + ",[fe80::1%a]:2=access:" + path);
  std::filesystem::remove(path);
  ASSERT_TRUE(servers) << servers.error().message;
  ASSERT_EQ(servers->size(), 3u);
  EXPECT_FALSE(servers->at(0).is_secured());
  EXPECT_EQ(servers->at(1).endpoint.to_string(), "h:1");
  EXPECT_EQ(servers->at(2).endpoint.to_string(), "[fe80::1%a]:2") << "heard of elsewhere";
  EXPECT_EQ(servers->at(2).identity, servers->at(1).identity);
  EXPECT_EQ(servers->at(1).token, "t");
  EXPECT_FALSE(parse_servers("access:" + path)) << "it is gone";
}

RC_GTEST_PROP(Access, AnyTextIsAnAnswer, ()) {
  const auto text = *rc::gen::arbitrary<std::string>();
  (void)parse_login_line(text);
  (void)parse_login_line("outboard://" + text);
  (void)parse_access_file(text, "f");
  (void)parse_access_file("address h:1\nid " + text, "f");
}

}  // namespace
}  // namespace outboard::wire
