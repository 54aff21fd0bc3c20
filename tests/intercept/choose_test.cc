// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/choose.h"

#include <gtest/gtest.h>

namespace outboard::intercept {
namespace {

Situation ready() { return {Mode::kAuto, true, true, false, false}; }

TEST(Choose, TakesAServerThatHasTheSessionAndAnswers) {
  EXPECT_EQ(choose(ready()).place, Place::kServer);
  EXPECT_EQ(choose(ready()).reason, LocalReason::kNone);
}

TEST(Choose, ModeRemoteAsksNotWhichIsSooner) {
  Situation situation = ready();
  situation.mode = Mode::kRemote;
  situation.sooner_here = true;
  EXPECT_EQ(choose(situation).place, Place::kServer);
}

TEST(Choose, StaysHereAndSaysWhy) {
  const auto reason = [](auto change) {
    Situation situation = ready();
    change(situation);
    const Choice choice = choose(situation);
    EXPECT_EQ(choice.place, Place::kLocal);
    return choice.reason;
  };
  EXPECT_EQ(reason([](Situation& s) { s.mode = Mode::kLocal; }), LocalReason::kModeLocal);
  EXPECT_EQ(reason([](Situation& s) { s.server_answers = false; }), LocalReason::kServerGone);
  EXPECT_EQ(reason([](Situation& s) {
              s.server_answers = false;
              s.server_is_distrusted = true;
            }),
            LocalReason::kDistrusted);
  EXPECT_EQ(reason([](Situation& s) { s.server_drains = true; }), LocalReason::kServerDraining);
  EXPECT_EQ(reason([](Situation& s) { s.server_has_session = false; }),
            LocalReason::kServerRefused);
  EXPECT_EQ(reason([](Situation& s) {
              s.server_has_session = false;
              s.upload_under_way = true;
            }),
            LocalReason::kUploading);
  EXPECT_EQ(reason([](Situation& s) { s.sooner_here = true; }), LocalReason::kSooner);
}

}  // namespace
}  // namespace outboard::intercept
