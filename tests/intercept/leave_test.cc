// SPDX-License-Identifier: Apache-2.0
// The process ends while a thread of ours is inside the vendor's library: the thread comes out
// before anything that it may use is destroyed, wherever exit() is called and however young the
// library's globals are.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "intercept/common/process.h"

namespace outboard::intercept {
namespace {

constexpr int kUsedWhatIsGone = 3;
std::atomic<bool> library_is_gone{false};

// As the library has them: made when it is first used, which is after our state was made.
void use_library() {
  struct Globals {
    ~Globals() { library_is_gone = true; }
  };
  static const Globals globals;
}

// Returns when a thread is inside, until the process leaves.
void enter_library_in_background() {
  static std::atomic<bool> is_inside{false};
  std::thread([] {
    Process& process = Process::current();
    process.in_vendor_code([&] {
      is_inside = true;
      while (!process.is_leaving() && !library_is_gone) std::this_thread::yield();
      if (library_is_gone) std::_Exit(kUsedWhatIsGone);
    });
  }).detach();
  while (!is_inside) std::this_thread::yield();
}

class Leave : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};
using LeaveDeathTest = Leave;

TEST_F(LeaveDeathTest, BeforeGlobalsThatAreYoungerThanOurs) {
  const auto end = [] {
    Process::current();
    use_library();
    enter_library_in_background();
    std::exit(0);
  };
  EXPECT_EXIT(end(), testing::ExitedWithCode(0), "");
}

TEST_F(LeaveDeathTest, BeforeGlobalsThatTheBackgroundMade) {
  const auto end = [] {
    Process::current();
    enter_library_in_background();
    use_library();
    std::exit(0);
  };
  EXPECT_EXIT(end(), testing::ExitedWithCode(0), "");
}

TEST_F(LeaveDeathTest, OnAnotherThreadThanTheFirst) {
  const auto end = [] {
    Process::current();
    use_library();
    enter_library_in_background();
    std::thread([] { std::exit(0); }).join();
  };
  EXPECT_EXIT(end(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace outboard::intercept
