// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_inputs.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>

#include "engine/element_type.h"

namespace outboard::cli {
namespace {

using engine::ElementType;
using engine::ValueInfo;

ValueInfo tensor(std::string name, ElementType type, std::vector<std::int64_t> dims) {
  ValueInfo info;
  info.name = std::move(name);
  info.kind = "tensor";
  info.type = type;
  info.has_shape = true;
  info.dims = std::move(dims);
  return info;
}

TEST(ParseShape, NamesAndDimensions) {
  const auto shape = parse_shape("image=1,3,224,224");
  ASSERT_TRUE(shape.has_value());
  EXPECT_EQ("image", shape->first);
  EXPECT_EQ((std::vector<std::int64_t>{1, 3, 224, 224}), shape->second);
  EXPECT_EQ((std::vector<std::int64_t>{0}), parse_shape("x=0")->second);
  EXPECT_TRUE(parse_shape("scalar=")->second.empty());
  EXPECT_EQ("a=b", parse_shape("a=b=7")->first);
}

TEST(ParseShape, RefusesAnythingElse) {
  for (const char* text : {"", "image", "=1,2", "x=1,", "x=,1", "x=1,,2", "x=1x2", "x=-1", "x= 1",
                           "x=99999999999999999999"}) {
    const auto shape = parse_shape(text);
    ASSERT_FALSE(shape.has_value()) << text;
    EXPECT_NE(std::string::npos, shape.error().message.find(fmt::format("({})", text)));
  }
}

RC_GTEST_PROP(ParseShape, NeverCrashes, (const std::string& text)) { (void)parse_shape(text); }

TEST(MakeInputs, OpenDimensionsTakeOneOrTheChoice) {
  const std::vector<ValueInfo> infos{tensor("ids", ElementType::kInt64, {-1, -1}),
                                     tensor("image", ElementType::kFloat, {-1, 3, 8, 8})};
  const auto plain = make_inputs(infos, {}, 1);
  ASSERT_TRUE(plain.has_value());
  EXPECT_EQ((std::vector<std::int64_t>{1, 1}), (*plain)[0].dims);
  EXPECT_EQ((std::vector<std::int64_t>{1, 3, 8, 8}), (*plain)[1].dims);
  EXPECT_EQ(8u, (*plain)[0].data.size());
  const auto chosen = make_inputs(infos, {{"ids", {2, 16}}}, 1);
  ASSERT_TRUE(chosen.has_value());
  EXPECT_EQ((std::vector<std::int64_t>{2, 16}), (*chosen)[0].dims);
  EXPECT_EQ(2u * 16 * 8, (*chosen)[0].data.size());
}

TEST(MakeInputs, ContentIsValidAndTheSameForTheSameSeed) {
  const std::vector<ValueInfo> infos{tensor("ids", ElementType::kInt64, {512}),
                                     tensor("x", ElementType::kFloat, {512}),
                                     tensor("half", ElementType::kFloat16, {512})};
  const auto one = make_inputs(infos, {}, 7), two = make_inputs(infos, {}, 7),
             other = make_inputs(infos, {}, 8);
  for (std::size_t i = 0; i < infos.size(); ++i) EXPECT_EQ((*one)[i].data, (*two)[i].data);
  EXPECT_NE((*one)[1].data, (*other)[1].data);
  std::vector<std::int64_t> ids(512);
  std::memcpy(ids.data(), (*one)[0].data.data(), 512 * sizeof(std::int64_t));
  EXPECT_TRUE(std::all_of(ids.begin(), ids.end(), [](auto v) { return v == 0 || v == 1; }));
  EXPECT_GT(std::count(ids.begin(), ids.end(), 1), 100);
  std::vector<float> floats(512);
  std::memcpy(floats.data(), (*one)[1].data.data(), 512 * sizeof(float));
  EXPECT_TRUE(std::all_of(floats.begin(), floats.end(), [](float v) { return v >= 0 && v < 1; }));
  std::vector<std::uint16_t> halves(512);
  std::memcpy(halves.data(), (*one)[2].data.data(), 512 * sizeof(std::uint16_t));
  EXPECT_TRUE(std::all_of(halves.begin(), halves.end(), [](auto v) {
    return (v >> 10) == 0xE;  // exponent of [0.5, 1), sign clear
  }));
}

RC_GTEST_PROP(MakeInputs, EveryTypeHasItsSize, ()) {
  const auto type = static_cast<ElementType>(*rc::gen::inRange(1, 23));
  const auto dims = *rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange(0, 5));
  RC_PRE(dims.size() < 6);
  const std::vector<ValueInfo> infos{tensor("x", type, dims)};
  const auto inputs = make_inputs(infos, {}, 1);
  RC_ASSERT(inputs.has_value());
  if (type == ElementType::kString) {
    RC_ASSERT((*inputs)[0].strings.size() == *engine::element_count(dims));
  } else {
    RC_ASSERT((*inputs)[0].data.size() == *engine::size_bytes(type, dims));
  }
}

TEST(MakeInputs, SaysWhatIsWrong) {
  const auto message = [](const std::vector<ValueInfo>& infos, const ShapeChoices& choices) {
    const auto inputs = make_inputs(infos, choices, 1);
    return inputs ? "" : inputs.error().message;
  };
  const std::vector<ValueInfo> image{tensor("image", ElementType::kFloat, {-1, 3, 8, 8})};
  EXPECT_EQ("the model has no input (imgae); it has (image)",
            message(image, {{"imgae", {1, 3, 8, 8}}}));
  EXPECT_EQ(
      "the shape (1,4,8,8) given for the input (image) must fit the model's, which is "
      "(-1,3,8,8)",
      message(image, {{"image", {1, 4, 8, 8}}}));
  EXPECT_NE("", message(image, {{"image", {3, 8, 8}}}));
  EXPECT_NE("", message(image, {{"image", {1'000'000'000'000, 3, 8, 8}}}));

  ValueInfo shapeless = tensor("x", ElementType::kFloat, {});
  shapeless.has_shape = false;
  EXPECT_EQ("the input (x) has no shape in the model; give one, --shape x=1,3,224,224",
            message({shapeless}, {}));
  EXPECT_EQ("", message({shapeless}, {{"x", {4, 4}}}));
  ValueInfo sequence = tensor("s", ElementType::kUndefined, {});
  sequence.kind = "sequence";
  EXPECT_NE(std::string::npos, message({sequence}, {}).find("kind (sequence)"));
}

}  // namespace
}  // namespace outboard::cli
