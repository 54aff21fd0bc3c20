// SPDX-License-Identifier: Apache-2.0
#include "cli/server_log.h"

#include <gtest/gtest.h>

namespace outboard::cli {
namespace {

std::string fields_of(std::string_view line) {
  const std::string all = json_log_line(LogLevel::kWarn, "T", line);
  const std::string_view head = R"({"time":"T","level":"warning",)";
  EXPECT_EQ(all.substr(0, head.size()), head);
  return all.substr(head.size());
}

TEST(JsonLog, FieldsNumbersAndQuotedValues) {
  EXPECT_EQ(
      fields_of(R"(session opened model=0a1b ms=17.5 inputs=-2 why="a \"b\" c" last="")"),
      R"("event":"session opened","model":"0a1b","ms":17.5,"inputs":-2,"why":"a \\\"b\\\" c","last":""})");
}

TEST(JsonLog, NothingIsLostOfWhatIsNoField) {
  EXPECT_EQ(fields_of("a plain sentence, with x = 1"),
            R"("event":"a plain sentence, with x = 1"})");
  EXPECT_EQ(fields_of(R"(broken reason="no end)"), R"("event":"broken reason=\"no end"})");
  EXPECT_EQ(fields_of("event key=1 and words"), R"("event":"event key=1 and words","key":1})");
  EXPECT_EQ(fields_of(""), R"("event":""})");
}

TEST(JsonLog, AValueCannotForgeAnotherFieldOrALine) {
  EXPECT_EQ(fields_of("failed reason=\"x\" level=\"error\"\n{\"event\":1}\""),
            "\"event\":\"failed\",\"reason\":\"x\"}");
  EXPECT_EQ(fields_of("failed level=debug time=0 event=other"), R"("event":"failed"})");
  EXPECT_EQ(fields_of("bad bytes=\xff"), "\"event\":\"bad\",\"bytes\":\"\xef\xbf\xbd\"}");
}

}  // namespace
}  // namespace outboard::cli
