// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/stub_model.h"

#include <gtest/gtest.h>

namespace outboard::intercept::onnxruntime {
namespace {

using wire::ElementType;

wire::ValueDescription value(std::string name, ElementType type, std::vector<std::int64_t> dims) {
  wire::ValueDescription made;
  made.name = std::move(name);
  made.type = type;
  made.has_shape = !dims.empty();
  made.dim_names.resize(dims.size());
  made.dims = std::move(dims);
  return made;
}

wire::SessionDescription two_by_two() {
  wire::SessionDescription description;
  description.inputs = {value("x", ElementType::kFloat, {-1, 4}),
                        value("n", ElementType::kInt64, {})};
  description.inputs[0].dim_names[0] = "batch";
  description.outputs = {value("x", ElementType::kFloat, {-1, 4}),
                         value("y", ElementType::kString, {2})};
  return description;
}

TEST(StubModel, AnOutputThatIsAnInputIsTheRuntimes) {
  const auto signature = signature_of(two_by_two());
  ASSERT_TRUE(signature);
  EXPECT_EQ(signature->node_output, (std::vector<int>{-1, 0}));
  EXPECT_EQ(signature->model_output, (std::vector<std::uint32_t>{1}));
  EXPECT_EQ(signature->domain(), "outboard.1_7-8");
}

TEST(StubModel, SaysWhyItCannotStandForAModel) {
  auto description = two_by_two();
  description.outputs.pop_back();
  EXPECT_NE(signature_of(description).error().message.find("computes nothing"), std::string::npos);
  description = two_by_two();
  description.inputs[1].type = ElementType::kComplex64;
  EXPECT_NE(signature_of(description).error().message.find("(n)"), std::string::npos);
  description = two_by_two();
  description.inputs[1].name = "x";
  EXPECT_NE(signature_of(description).error().message.find("twice"), std::string::npos);
}

// The bytes are the format: a small stub, spelled out after onnx.proto.
TEST(StubModel, IsTheProtobufOfOnnx) {
  wire::SessionDescription description;
  description.inputs = {value("x", ElementType::kFloat, {3})};
  description.outputs = {value("y", ElementType::kFloat, {-1})};
  description.outputs[0].dim_names[0] = "n";
  description.graph_name = "g";
  const std::string bytes = write_stub_model(description, *signature_of(description), 300);
  // NodeProto: input x, output y, name, operator, attribute {session: INT 300}.
  const std::string node(
      "\x0a\x01x\x12\x01y\x1a\x08outboard\x22\x03Run\x2a\x0f\x0a\x07session\x18\xac\x02"
      "\xa0\x01\x02");
  // ValueInfoProto of y: float, one dimension called n.
  const std::string y("\x0a\x01y\x12\x0b\x0a\x09\x08\x01\x12\x05\x0a\x03\x12\x01n");
  EXPECT_EQ(bytes.substr(0, 2), "\x08\x08");  // IR version 8
  EXPECT_NE(bytes.find(node), std::string::npos);
  EXPECT_NE(bytes.find(y), std::string::npos);
  EXPECT_NE(bytes.find("outboard.1-1"), std::string::npos);
  EXPECT_LT(bytes.size(), 200u);
}

}  // namespace
}  // namespace outboard::intercept::onnxruntime
