// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/trace.h"

#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>
#include <nlohmann/json.hpp>

namespace outboard::intercept {
namespace {

TEST(Trace, PutsTheServersShareInTheMiddleOfTheWait) {
  wire::RunAccount run;
  run.send_ns = 10;
  run.wait_ns = 100;
  run.server.queue_ns = 20;
  run.server.compute_ns = 40;
  const ServerSpan span = place_on_client_clock(run);
  EXPECT_EQ(span.queue_start_ns, 30u);
  EXPECT_EQ(span.compute_start_ns, 50u);
  EXPECT_EQ(span.compute_end_ns, 90u);
}

RC_GTEST_PROP(Trace, TheServersShareEndsBeforeTheReply,
              (std::uint32_t send, std::uint32_t wait, std::uint32_t queue,
               std::uint32_t compute)) {
  wire::RunAccount run;
  run.send_ns = send;
  run.wait_ns = wait;
  run.server.queue_ns = queue;
  run.server.compute_ns = compute;
  const ServerSpan span = place_on_client_clock(run);
  RC_ASSERT(span.queue_start_ns <= span.compute_start_ns);
  RC_ASSERT(span.compute_start_ns <= span.compute_end_ns);
  RC_ASSERT(span.compute_end_ns <= run.send_ns + run.wait_ns);
}

TEST(Trace, IsAListOfChromeEvents) {
  TraceEvent remote;
  remote.session = 3;
  remote.start_ns = 5000;
  remote.time_ns = 2000;
  remote.place = Place::kServer;
  remote.run.start_ns = 5100;
  TraceEvent local = remote;
  local.place = Place::kLocal;
  local.reason = LocalReason::kUploading;
  local.explores = true;
  const auto events = nlohmann::json::parse("[" + chrome_events({remote, local}, 77, "app") + "]");
  ASSERT_EQ(events.size(), 2u + 1 + 5 + 1);
  EXPECT_EQ(events[2]["name"], "Run of session 3");
  EXPECT_EQ(events[2]["ts"], 5.0);
  EXPECT_EQ(events.back()["args"]["reason"], "uploading");
  EXPECT_EQ(events.back()["args"]["explores"], true);
  EXPECT_FALSE(events[2]["args"].contains("explores"));
}

TEST(Trace, ShowsTheWorkerInTheMiddleOfTheServersComputing) {
  TraceEvent event;
  event.place = Place::kServer;
  event.run.request_id = 0x12ab;
  event.run.wait_ns = 100'000;
  event.run.server.compute_ns = 60'000;
  event.run.server.hop_ns = 20'000;
  const auto events = nlohmann::json::parse("[" + chrome_events({event}, 77, "app") + "]");
  EXPECT_EQ(events[2]["args"]["name"], "workers of app");
  EXPECT_EQ(events[3]["args"]["id"], "r00000000000012ab");
  EXPECT_EQ(events[3]["args"]["hop_us"], 20.0);
  EXPECT_EQ(events.back()["name"], "engine");
  EXPECT_EQ(events.back()["ts"], 20.0 + 10.0);
  EXPECT_EQ(events.back()["dur"], 40.0);
}

}  // namespace
}  // namespace outboard::intercept
