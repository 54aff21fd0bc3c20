// SPDX-License-Identifier: Apache-2.0
#include "engine/element_type.h"

#include <gtest/gtest.h>

#include <limits>

namespace outboard::engine {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

std::optional<std::uint64_t> bytes(ElementType type, std::vector<std::int64_t> dims) {
  return size_bytes(type, dims);
}

TEST(ElementType, SizesOfTensors) {
  EXPECT_EQ(bytes(ElementType::kFloat, {}), 4u);
  EXPECT_EQ(bytes(ElementType::kFloat, {2, 3}), 24u);
  EXPECT_EQ(bytes(ElementType::kComplex128, {2}), 32u);
  EXPECT_EQ(bytes(ElementType::kInt4, {3}), 2u) << "packed, rounded up";
  EXPECT_EQ(bytes(ElementType::kFloat, {0, kHuge, kHuge}), 0u) << "empty, whatever else";
}

TEST(ElementType, ImpossibleSizesAreRefused) {
  EXPECT_EQ(bytes(ElementType::kFloat, {-1}), std::nullopt);
  EXPECT_EQ(bytes(ElementType::kFloat, {0, -1}), std::nullopt);
  EXPECT_EQ(bytes(ElementType::kFloat, {kHuge, kHuge}), std::nullopt);
  EXPECT_EQ(bytes(ElementType::kDouble, {kHuge}), std::nullopt) << "elements fit, bits do not";
}

TEST(ElementType, ANumberWithoutANameIsUndefined) {
  EXPECT_EQ(name_of(static_cast<ElementType>(200)), "undefined");
  EXPECT_EQ(bits_of(static_cast<ElementType>(200)), 0u);
}

}  // namespace
}  // namespace outboard::engine
