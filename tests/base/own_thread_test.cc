// SPDX-License-Identifier: Apache-2.0
#include "base/own_thread.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>

namespace outboard {
namespace {

int nice_of_this_thread() { return ::getpriority(PRIO_PROCESS, static_cast<id_t>(::gettid())); }

TEST(OwnThread, ReturnsWhatItsWorkReturns) {
  EXPECT_EQ(on_own_thread([] { return std::string("done"); }), "done");
  EXPECT_EQ(*on_own_thread([] { return std::make_unique<int>(3); }), 3);
}

TEST(OwnThread, IsNiceAndItsCallerIsNot) {
  const int before = nice_of_this_thread();
  const int there = on_own_thread([] {
    be_nice(5);
    return nice_of_this_thread();
  });
  EXPECT_EQ(there, std::min(before + 5, 19));
  EXPECT_EQ(nice_of_this_thread(), before);
}

// However often it is asked: levels count from the process's own.
TEST(OwnThread, IsAsNiceAsItWasAskedLast) {
  const int before = nice_of_this_thread();
  const int there = on_own_thread([] {
    be_nice(2);
    be_nice(5);
    return nice_of_this_thread();
  });
  EXPECT_EQ(there, std::min(before + 5, 19));
}

}  // namespace
}  // namespace outboard
