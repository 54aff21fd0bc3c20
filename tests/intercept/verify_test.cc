// SPDX-License-Identifier: Apache-2.0
// Two computations of one Run compared: what is noise of another processor, and what is a lie.
#include "intercept/common/verify.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace outboard::intercept {
namespace {

using wire::ElementType;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename Element>
KeptOutputs::Output output(ElementType type, const std::vector<Element>& values) {
  KeptOutputs::Output made;
  made.header.type = type;
  made.header.dims = {static_cast<std::int64_t>(values.size())};
  made.data.resize(values.size() * sizeof(Element));
  if (!values.empty()) std::memcpy(made.data.data(), values.data(), made.data.size());
  made.header.data_bytes = made.data.size();
  return made;
}

template <typename Element>
std::optional<Difference> compare_two(ElementType type, const std::vector<Element>& server,
                                      const std::vector<Element>& local) {
  const KeptOutputs::Output a = output(type, server), b = output(type, local);
  return compare(std::span(&a, 1), std::span(&b, 1));
}

TEST(Verify, FloatsMayDifferByTheNoiseOfAnotherProcessor) {
  const auto differ = [](float a, float b) {
    return compare_two<float>(ElementType::kFloat, {1, a}, {1, b}).has_value();
  };
  EXPECT_FALSE(differ(1.0f, 1.0009f));
  EXPECT_TRUE(differ(1.0f, 1.002f));
  EXPECT_FALSE(differ(1e-6f, 5e-5f)) << "both are as good as zero";
  EXPECT_TRUE(differ(0.0f, 1e-3f));
  EXPECT_FALSE(differ(1e30f, 1.0005e30f));
  EXPECT_FALSE(differ(0.0f, -0.0f));
  EXPECT_FALSE(differ(kNan, -kNan));
  EXPECT_TRUE(differ(kNan, 0));
  EXPECT_FALSE(differ(kInfinity, kInfinity));
  EXPECT_TRUE(differ(kInfinity, -kInfinity));
  EXPECT_TRUE(differ(kInfinity, 3e38f));
}

TEST(Verify, SaysWhichElementDiffersMostAndByHowMuch) {
  const auto found = compare_two<float>(ElementType::kFloat, {1, 2, 3, 4}, {1, 2.5f, 7, 4});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->output, 0u);
  EXPECT_EQ(found->index, 2u);
  EXPECT_EQ(found->elements, 2u);
  EXPECT_EQ(found->server, "3");
  EXPECT_EQ(found->local, "7");
  EXPECT_EQ(found->by, 4);
}

TEST(Verify, IntegersBoolAndStringsAreTheSameOrNot) {
  const std::int64_t large = (std::int64_t{1} << 62) + 1;
  EXPECT_TRUE(compare_two<std::int64_t>(ElementType::kInt64, {large}, {large - 1}));
  EXPECT_FALSE(compare_two<std::int64_t>(ElementType::kInt64, {large}, {large}));
  EXPECT_TRUE(compare_two<std::uint8_t>(ElementType::kUint8, {200}, {201}));
  EXPECT_TRUE(compare_two<std::uint8_t>(ElementType::kBool, {1}, {0}));
  KeptOutputs::Output a, b;
  a.header.type = b.header.type = ElementType::kString;
  a.header.dims = b.header.dims = {2};
  a.strings = {"one", "two"};
  b.strings = {"one", "too"};
  const auto found = compare(std::span(&a, 1), std::span(&b, 1));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->index, 1u);
  EXPECT_EQ(found->server, "two");
  b.strings = a.strings;
  EXPECT_FALSE(compare(std::span(&a, 1), std::span(&b, 1)));
}

TEST(Verify, SmallFloatsAreReadAsTheirFormatsSay) {
  const auto value_of = [](ElementType type, std::uint32_t bits) {
    // Against zero, the difference is the value.
    const auto found =
        type == ElementType::kFloat16 || type == ElementType::kBfloat16
            ? compare_two<std::uint16_t>(type, {static_cast<std::uint16_t>(bits)}, {0})
            : compare_two<std::uint8_t>(type, {static_cast<std::uint8_t>(bits)}, {0});
    return found ? std::stod(found->server) : 0;
  };
  EXPECT_EQ(value_of(ElementType::kFloat16, 0x3c00), 1);
  EXPECT_EQ(value_of(ElementType::kFloat16, 0xc580), -5.5);
  EXPECT_EQ(value_of(ElementType::kFloat16, 0x7bff), 65504);
  EXPECT_TRUE(std::isinf(value_of(ElementType::kFloat16, 0x7c00)));
  EXPECT_TRUE(std::isnan(value_of(ElementType::kFloat16, 0x7c01)));
  EXPECT_EQ(value_of(ElementType::kBfloat16, 0x3f80), 1);
  EXPECT_EQ(value_of(ElementType::kFloat8E4M3FN, 0x38), 1);
  EXPECT_EQ(value_of(ElementType::kFloat8E4M3FN, 0x7e), 448);
  EXPECT_TRUE(std::isnan(value_of(ElementType::kFloat8E4M3FN, 0x7f)));
  EXPECT_EQ(value_of(ElementType::kFloat8E4M3FNUZ, 0x40), 1);
  EXPECT_EQ(value_of(ElementType::kFloat8E4M3FNUZ, 0x7f), 240);
  EXPECT_TRUE(std::isnan(value_of(ElementType::kFloat8E4M3FNUZ, 0x80)));
  EXPECT_EQ(value_of(ElementType::kFloat8E5M2, 0x3c), 1);
  EXPECT_EQ(value_of(ElementType::kFloat8E5M2, 0x7b), 57344);
  EXPECT_EQ(value_of(ElementType::kFloat8E5M2FNUZ, 0x40), 1);
  EXPECT_EQ(value_of(ElementType::kFloat8E5M2FNUZ, 0x7f), 57344);
}

TEST(Verify, TypesShapesAndCountsHaveToAgree) {
  const KeptOutputs::Output a = output<float>(ElementType::kFloat, {1, 2});
  KeptOutputs::Output b = a;
  b.header.dims = {2, 1};
  const auto found = compare(std::span(&a, 1), std::span(&b, 1));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->server, "float [2]");
  EXPECT_EQ(found->local, "float [2, 1]");
  EXPECT_TRUE(compare(std::span(&a, 1), {}));
  EXPECT_FALSE(compare({}, {}));
}

RC_GTEST_PROP(Verify, AFlippedHighBitIsSeenAndEqualBytesAreNot,
              (const std::vector<float>& values)) {
  RC_PRE(!values.empty());
  RC_ASSERT(!compare_two<float>(ElementType::kFloat, values, values));
  const auto at = *rc::gen::inRange<std::size_t>(0, values.size());
  std::vector<float> other = values;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &other[at], 4);
  bits ^= 1u << 30;  // the exponent's highest: never within the tolerance
  std::memcpy(&other[at], &bits, 4);
  const auto found = compare_two<float>(ElementType::kFloat, other, values);
  if (std::isnan(values[at]) && std::isnan(other[at])) return;
  RC_ASSERT(found.has_value());
  RC_ASSERT(found->index == at);
}

}  // namespace
}  // namespace outboard::intercept
