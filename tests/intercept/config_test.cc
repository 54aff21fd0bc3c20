// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/config.h"

#include <gtest/gtest.h>

#include <map>

namespace outboard::intercept {
namespace {

Result<Config> read(const std::map<std::string, std::string>& environment) {
  return read_config([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(Config, AnEmptyEnvironmentAsksForNothing) {
  const auto config = read({});
  ASSERT_TRUE(config);
  EXPECT_TRUE(config->servers.empty());
  EXPECT_EQ(config->mode, Mode::kAuto);
  EXPECT_EQ(config->spool, wire::Spool::kDisk);
  EXPECT_EQ(config->coding, wire::CodingMode::kAuto);
  EXPECT_FALSE(config->summary);
  EXPECT_TRUE(config->hedging);
  EXPECT_EQ(config->deadline_ms, 0);
  EXPECT_EQ(config->verify, 0);
  EXPECT_FALSE(config->verify_strict);
}

TEST(Config, ReadsEveryVariable) {
  const auto config = read({{"OUTBOARD_SERVERS", "one:1,unix:/two,"},
                            {"OUTBOARD_MODE", "remote"},
                            {"OUTBOARD_SPOOL", "memory"},
                            {"OUTBOARD_CODING", "lz4"},
                            {"OUTBOARD_DEADLINE_MS", "12.5"},
                            {"OUTBOARD_HEDGING", "off"},
                            {"OUTBOARD_VERIFY", "0.25"},
                            {"OUTBOARD_VERIFY_STRICT", "1"},
                            {"OUTBOARD_SEED", "7"},
                            {"OUTBOARD_SUMMARY", "1"},
                            {"OUTBOARD_JSON", "/j"},
                            {"OUTBOARD_TRACE", "/t"}});
  ASSERT_TRUE(config) << config.error().message;
  ASSERT_EQ(config->servers.size(), 2u);
  EXPECT_EQ(config->servers[0].endpoint.to_string(), "one:1");
  EXPECT_EQ(config->servers[1].endpoint.to_string(), "unix:/two");
  EXPECT_EQ(config->mode, Mode::kRemote);
  EXPECT_EQ(config->spool, wire::Spool::kMemory);
  EXPECT_EQ(config->coding, wire::CodingMode::kLz4);
  EXPECT_EQ(config->deadline_ms, 12.5);
  EXPECT_FALSE(config->hedging);
  EXPECT_EQ(config->verify, 0.25);
  EXPECT_TRUE(config->verify_strict);
  EXPECT_EQ(config->seed, 7u);
  EXPECT_TRUE(config->summary);
  EXPECT_EQ(config->json_path, "/j");
  EXPECT_EQ(config->trace_path, "/t");
}

TEST(Config, NamesWhatIsWrong) {
  EXPECT_NE(read({{"OUTBOARD_MODE", "never"}}).error().message.find("(never)"), std::string::npos);
  EXPECT_NE(read({{"OUTBOARD_CODING", "morse"}}).error().message.find("(morse)"),
            std::string::npos);
  EXPECT_NE(read({{"OUTBOARD_SPOOL", "tape"}}).error().message.find("(tape)"), std::string::npos);
  EXPECT_NE(read({{"OUTBOARD_SERVERS", "host:port"}}).error().message.find("OUTBOARD_SERVERS"),
            std::string::npos);
  const auto message = [](const char* name, const char* value) {
    const auto config = read({{name, value}});
    return config ? std::string("no error") : config.error().message;
  };
  for (const char* deadline : {"0", "-3", "soon", "5ms", "nan", "inf", "1e300"})
    EXPECT_EQ(message("OUTBOARD_DEADLINE_MS", deadline),
              fmt::format("deadline ({}) must be a number of milliseconds, more than 0 and at most "
                          "86400000",
                          deadline));
  for (const char* share : {"1.01", "-0.1", "half", "nan", "10%"})
    EXPECT_EQ(message("OUTBOARD_VERIFY", share),
              fmt::format("share of Runs to verify ({}) must be a number from 0 to 1", share));
  EXPECT_EQ(message("OUTBOARD_HEDGING", "maybe"), "OUTBOARD_HEDGING (maybe) must be on or off");
  EXPECT_EQ(message("OUTBOARD_SEED", "0"), "OUTBOARD_SEED (0) must be a whole number, at least 1");
}

}  // namespace
}  // namespace outboard::intercept
