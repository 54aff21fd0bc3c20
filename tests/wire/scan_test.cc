// SPDX-License-Identifier: Apache-2.0
// The scan for external data, on protobuf bytes written by hand.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/cursor.h"
#include "wire/model_package.h"

namespace outboard::wire {
namespace {

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
  return out;
}
std::string field(std::uint64_t number, const std::string& body) {
  return varint(number << 3 | 2) + varint(body.size()) + body;
}
std::string tensor_at(const std::string& location) {
  return field(13, field(1, "location") + field(2, location)) +
         field(13, field(1, "offset") + field(2, "4096"));
}
std::vector<std::string> scan(const std::string& model) {
  return external_data_locations(as_byte_span(model));
}

TEST(Scan, FindsInitializersAttributesSubgraphsAndFunctions) {
  const std::string initializer = field(5, tensor_at("a.bin"));
  const std::string constant = field(1, field(5, field(5, tensor_at("b.bin"))));
  const std::string subgraph = field(1, field(5, field(6, field(5, tensor_at("c.bin")))));
  const std::string sparse = field(15, field(1, tensor_at("d.bin")) + field(2, tensor_at("a.bin")));
  const std::string function = field(25, field(7, field(5, field(10, tensor_at("e.bin")))));
  EXPECT_EQ(scan(varint(1 << 3) + varint(8) + field(7, initializer + constant + subgraph + sparse) +
                 function),
            (std::vector<std::string>{"a.bin", "b.bin", "c.bin", "d.bin", "e.bin"}));
}

TEST(Scan, OnnxRuntimesOwnFormatNamesNone) {
  EXPECT_TRUE(
      scan(std::string("\x08\0\0\0ORTM", 8) + field(7, field(5, tensor_at("a.bin")))).empty());
}

TEST(Scan, StopsAtBytesThatAreNoProtobuf) {
  const std::string model = field(7, field(5, tensor_at("a.bin")));
  for (std::size_t size = 0; size < model.size(); ++size)
    EXPECT_TRUE(scan(model.substr(0, size)).empty());
  EXPECT_EQ(scan(model + "\xff\xff\xff").size(), 1u);
}

TEST(Scan, DeepNestingEnds) {
  std::string graph = field(5, tensor_at("deep.bin"));
  for (int i = 0; i < 500; ++i) graph = field(1, field(5, field(6, graph)));
  EXPECT_TRUE(scan(field(7, graph)).empty());
}

RC_GTEST_PROP(Scan, NeverFailsOnAnyBytes, (const std::string& bytes)) { scan(bytes); }

TEST(SafePath, OnlyBelow) {
  EXPECT_TRUE(is_safe_relative_path("weights.bin"));
  EXPECT_TRUE(is_safe_relative_path("a/b/c.bin"));
  for (const char* bad : {"", "/a", "..", "a/..", "a/../b", "./a", "a/", "a//b", "a\\b"})
    EXPECT_FALSE(is_safe_relative_path(bad)) << bad;
  EXPECT_FALSE(is_safe_relative_path(std::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace outboard::wire
