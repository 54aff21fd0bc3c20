// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/json_writer.h"

#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>
#include <limits>
#include <nlohmann/json.hpp>

namespace outboard::intercept {
namespace {

TEST(JsonWriter, WritesWhatAReaderReads) {
  JsonWriter json;
  json.begin_object().member("text", "a \"quoted\"\n\\ é").member("number", 1.5);
  json.member("big", std::uint64_t{18446744073709551615u}).member("negative", std::int64_t{-3});
  json.key("list").begin_array().value(true).null().begin_object().end_object().end_array();
  json.member("nan", std::numeric_limits<double>::quiet_NaN()).end_object();
  const auto read = nlohmann::json::parse(json.text());
  EXPECT_EQ(read["text"], "a \"quoted\"\n\\ é");
  EXPECT_EQ(read["number"], 1.5);
  EXPECT_EQ(read["big"], 18446744073709551615u);
  EXPECT_EQ(read["negative"], -3);
  EXPECT_EQ(read["list"], nlohmann::json::parse("[true, null, {}]"));
  EXPECT_TRUE(read["nan"].is_null());
}

RC_GTEST_PROP(JsonWriter, AnyBytesBecomeAValidDocument, (const std::string& bytes)) {
  JsonWriter json;
  json.begin_array().value(bytes).value("end").end_array();
  const auto read = nlohmann::json::parse(json.text());
  RC_ASSERT(read.size() == 2u);
}

}  // namespace
}  // namespace outboard::intercept
