// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "wire/tensor_coder.h"

namespace outboard::intercept {
namespace {

AccountFigures session_with_both() {
  Account account(4, "model.onnx");
  account.set_model("ab12", 1000);
  account.set_server("host:7070");
  wire::RunAccount run;
  run.send_ns = 1000;
  run.wait_ns = 9000;
  run.receive_ns = 500;
  run.server = {100, 1000, 4000, 0};
  run.bytes_sent = 10;
  run.bytes_received = 20;
  run.raw_bytes_sent = 400;
  run.raw_bytes_received = 20;
  run.encode_ns = 2000;
  run.codings = wire::kKnownBit | 1u << static_cast<unsigned>(wire::Coding::kPalette);
  account.server_run(11'000, run);
  account.server_run(11'000, run);
  account.local_run(3'000, LocalReason::kUploading, false);
  account.local_run(3'000, LocalReason::kServerGone, true);
  account.failed_run();
  account.hedged_run(HedgeWinner::kFirst);
  account.hedged_run(HedgeWinner::kHere);
  account.hedged_run(HedgeWinner::kHere);
  account.hedged_run(HedgeWinner::kOtherServer);
  account.missed_deadline();
  account.explored_run(0);
  account.explored_run(2'500);
  account.verified_run();
  account.differing_run("output (y) differs");
  account.differing_run("and again");
  account.unverified_run();
  return account.figures();
}

TEST(Report, JsonSaysWhereRunsWentAndWhy) {
  const auto json = nlohmann::json::parse(
      summary_json({}, {session_with_both()}, {{"host:7070", "up", 7, 8, "tcp"}}, /*ended=*/true));
  EXPECT_EQ(json["servers"][0]["frames_sent"], 7);
  const auto& session = json["sessions"][0];
  EXPECT_EQ(session["runs"]["server"], 2);
  EXPECT_EQ(session["runs"]["local"], 2);
  EXPECT_EQ(session["runs"]["failed"], 1);
  EXPECT_EQ(session["runs"]["replayed"], 1);
  EXPECT_EQ(session["runs"]["local_because"],
            nlohmann::json::parse(R"({"uploading": 1, "server gone": 1})"));
  EXPECT_EQ(session["hedged"],
            nlohmann::json::parse(R"({"runs": 4, "won_by_server": 1, "won_here": 2,
                                      "won_by_other_server": 1, "deadline_missed": 1})"));
  EXPECT_EQ(session["explored"], nlohmann::json::parse(R"({"runs": 2, "cost_us": 2.5})"));
  EXPECT_EQ(session["verified"],
            nlohmann::json::parse(R"({"runs": 3, "differing": 2, "not_possible": 1,
                                      "first_difference": "output (y) differs"})"));
  EXPECT_EQ(session["bytes_sent"], 20);
  EXPECT_EQ(session["coding"]["used"], "palette, known");
  EXPECT_EQ(session["coding"]["raw_bytes_sent"], 800);
  EXPECT_EQ(session["coding"]["encode_mean_us"], 2.0);
  EXPECT_EQ(session["server_run_mean_us"]["network"], 4.0);
  EXPECT_EQ(session["server_run_mean_us"]["compute"], 4.0);
}

TEST(Report, TableHasARowForEachPlace) {
  const std::string table = summary_table({session_with_both()});
  EXPECT_NE(table.find("server host:7070"), std::string::npos);
  EXPECT_NE(table.find("here: uploading, server gone"), std::string::npos);
  EXPECT_NE(table.find("session 4: 4 late Runs begun a second time; answered first by the server: "
                       "1, here: 2, by another server: 1"),
            std::string::npos);
  EXPECT_NE(table.find("session 4: 1 Runs missed the deadline"), std::string::npos);
  EXPECT_NE(table.find("session 4: 3 Runs verified, 2 differ, 1 could not be done here; the first: "
                       "output (y) differs"),
            std::string::npos);
  EXPECT_NE(table.find("session 4: coded (palette, known), 20 B sent instead of 800 B"),
            std::string::npos);
  EXPECT_NE(table.find("session 4: 1 Runs failed"), std::string::npos);
}

}  // namespace
}  // namespace outboard::intercept
