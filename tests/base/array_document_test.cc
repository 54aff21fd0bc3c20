// SPDX-License-Identifier: Apache-2.0
#include "base/array_document.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

namespace outboard {
namespace {

class ArrayDocument : public testing::Test {
 protected:
  ArrayDocument() {
    std::string name = testing::TempDir() + "array-XXXXXX";
    folder = ::mkdtemp(name.data());
    path = folder + "/document.json";
  }
  ~ArrayDocument() override {
    ::unlink(path.c_str());
    ::rmdir(folder.c_str());
  }
  nlohmann::json read() const {
    std::ifstream file(path);
    return nlohmann::json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
  }
  std::string folder, path;
};

TEST_F(ArrayDocument, IsWholeAfterEveryStep) {
  ASSERT_TRUE(create_array_document(path, kReportHead));
  EXPECT_EQ(read()["processes"].size(), 0u);
  ASSERT_TRUE(append_to_array_document(path, kReportHead, "1"));
  ASSERT_TRUE(append_to_array_document(path, kReportHead, "2, 3"));
  EXPECT_EQ(read()["processes"], nlohmann::json::parse("[1, 2, 3]"));
  ASSERT_TRUE(create_array_document(path, kTraceHead));
  EXPECT_EQ(read()["traceEvents"].size(), 0u);
}

TEST_F(ArrayDocument, BeginsTheDocumentWhenThereIsNone) {
  ASSERT_TRUE(append_to_array_document(path, kReportHead, "1"));
  EXPECT_EQ(read()["processes"], nlohmann::json::parse("[1]"));
}

TEST_F(ArrayDocument, AnEntryTakesThePlaceOfAnEarlierOne) {
  const auto replace = [&](std::string_view before, std::string_view entry) {
    ASSERT_TRUE(replace_in_array_document(path, kReportHead, before, entry));
  };
  replace("", R"({"of": "one"})");
  replace("", R"({"of": "another"})");
  replace(R"({"of": "one"})", R"({"of": "one", "and": "more of it"})");
  EXPECT_EQ(read()["processes"],
            nlohmann::json::parse(R"([{"of": "one", "and": "more of it"}, {"of": "another"}])"));
  replace(R"({"of": "one", "and": "more of it"})", "1");
  replace(R"({"of": "another"})", "2");
  EXPECT_EQ(read()["processes"], nlohmann::json::parse("[1, 2]"));
  replace(R"({"lost": "meanwhile"})", "3");
  EXPECT_EQ(read()["processes"], nlohmann::json::parse("[1, 2, 3]"));
}

TEST_F(ArrayDocument, ManyWritersDoNotMix) {
  std::vector<std::thread> writers;
  for (int i = 0; i < 8; ++i) {
    writers.emplace_back([this] {
      for (int k = 0; k < 20; ++k)
        EXPECT_TRUE(append_to_array_document(path, kReportHead, "{\"key\": \"value\"}"));
    });
  }
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(read()["processes"].size(), 160u);
}

TEST_F(ArrayDocument, SaysWhatCannotBeWritten) {
  const auto created = create_array_document(folder + "/missing/file", kReportHead);
  ASSERT_FALSE(created);
  EXPECT_NE(created.error().message.find("/missing/file"), std::string::npos);
  EXPECT_FALSE(create_array_document("/dev/null", kReportHead));
}

}  // namespace
}  // namespace outboard
