// SPDX-License-Identifier: Apache-2.0
#include "cli/top_screen.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace outboard::cli {
namespace {

std::string document(const char* server, double uptime_s, int runs, int other_runs) {
  return fmt::format(
      R"({{"server_id":"{}","uptime_s":{},"runs":{},"slots":2,"queue_depth":3,)"
      R"("queue_wait":{{"mean_us":1000,"p50_us":900,"p95_us":2000,"max_us":3000}},)"
      R"("compute":{{"mean_us":3000,"p50_us":2900,"p95_us":4000,"max_us":5000}},)"
      R"("models":[{{"id":"aaaa","size_bytes":2000}},{{"id":"bbbb","size_bytes":1}}],)"
      R"("sessions":[{{"model":"aaaa","users":1,"runs":{}}},{{"model":"bbbb","users":2,"runs":{}}}],)"
      R"("tenants":[{{"name":"local","runs":{}}},{{"name":"lab","runs":{}}}]}})",
      server, uptime_s, runs + other_runs, runs, other_runs, runs, other_runs);
}

std::string line_with(const std::string& screen, std::string_view word) {
  const std::size_t at = screen.find(word);
  if (at == std::string::npos) return "";
  const std::size_t begin = screen.rfind('\n', at) + 1;
  return screen.substr(begin, screen.find('\n', at) - begin);
}

TEST(TopScreen, RatesAreTheDifferenceOverTheServersClock) {
  const std::string earlier = document("s", 10, 100, 1000), now = document("s", 12, 120, 1400);
  const auto screen = top_screen({.address = "host:1", .earlier = earlier, .now = now});
  ASSERT_TRUE(screen) << screen.error().message;
  EXPECT_NE(line_with(*screen, "Runs  ").find("210.0/s"), std::string::npos) << *screen;
  EXPECT_NE(line_with(*screen, "aaaa").find("10.0/s"), std::string::npos) << *screen;
  EXPECT_NE(line_with(*screen, "lab").find("200.0/s"), std::string::npos) << *screen;
  EXPECT_LT(screen->find("bbbb"), screen->find("aaaa")) << "the busiest model comes first";
  EXPECT_NE(line_with(*screen, "compute").find("75 %"), std::string::npos) << *screen;
}

TEST(TopScreen, AServerStartedAnewHasNoRates) {
  const auto screen = top_screen(
      {.address = "a", .earlier = document("s", 100, 5, 5), .now = document("t", 1, 1, 1)});
  ASSERT_TRUE(screen);
  EXPECT_EQ(screen->find(".0/s"), std::string::npos) << *screen;
}

TEST(TopScreen, FitsTheTerminal) {
  const std::string now = document("s", 1, 1, 1);
  const auto screen =
      top_screen({.address = "a", .earlier = {}, .now = now, .columns = 20, .rows = 5});
  ASSERT_TRUE(screen);
  EXPECT_EQ(std::count(screen->begin(), screen->end(), '\n'), 5);
  for (std::size_t at = 0, end = 0; (end = screen->find('\n', at)) != std::string::npos;
       at = end + 1)
    EXPECT_LE(end - at, 20u);
}

TEST(TopScreen, WhatIsMissingOrNoDocument) {
  EXPECT_TRUE(top_screen({.address = "a", .earlier = {}, .now = "{}"}));
  EXPECT_FALSE(top_screen({.address = "a", .earlier = {}, .now = "no"}));
  EXPECT_FALSE(top_screen({.address = "a", .earlier = {}, .now = "[1]"}));
}

}  // namespace
}  // namespace outboard::cli
