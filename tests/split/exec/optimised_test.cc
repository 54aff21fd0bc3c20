// SPDX-License-Identifier: Apache-2.0
// What an engine says it has made of a band, when it lies: an error, soon, and never more memory
// than a band is worth.
#include "split/exec/optimised.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

#include "split/exec/blocked.h"
#include "tests/split/exec/part_cluster.h"
#include "tests/split/random_model.h"

namespace outboard::split::exec {
namespace {

onnx::ModelProto chain_of(int nodes) {
  onnx::ModelProto model;
  for (int i = 0; i < nodes; ++i) {
    auto& node = *model.mutable_graph()->add_node();
    node.set_op_type("Relu");
    node.add_input(std::to_string(i));
    node.add_output(std::to_string(i + 1));
  }
  return model;
}

void expect_refused(const std::string& bytes, const std::string& because) {
  const auto parsed = parse_optimised(bytes);
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(parsed.error().message.find(because), std::string::npos) << parsed.error().message;
}

TEST(Optimised, WeightsMayBeLargeAndTheRestMayNot) {
  onnx::ModelProto model = chain_of(3);
  auto& raw = *model.mutable_graph()->add_initializer();
  raw.set_raw_data(std::string(2 * kMostStructureBytes, 'w'));
  auto& floats = *model.mutable_graph()->add_initializer();
  for (std::uint64_t i = 0; i < kMostStructureBytes; ++i) floats.add_float_data(1);
  const auto parsed = parse_optimised(model.SerializeAsString());
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->SerializeAsString(), model.SerializeAsString());
  model.set_doc_string(std::string(kMostStructureBytes, 'd'));
  expect_refused(model.SerializeAsString(), "beside its weights");
}

TEST(Optimised, MessagesOfTwoBytesAreNotTurnedIntoGigabytes) {
  std::string nodes;
  while (nodes.size() < 8 * kMostStructureBytes) nodes += std::string("\x0a\x00", 2);
  onnx::ModelProto model;
  const std::string head = "\x3a";  // the graph, of so many bytes
  std::string size;
  for (std::uint64_t n = nodes.size(); n > 0; n >>= 7)
    size += static_cast<char>((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
  expect_refused(head + size + nodes, "beside its weights");
}

TEST(Optimised, ManyOperatorsAreNotAChainToGoDown) {
  ASSERT_TRUE(parse_optimised(chain_of(kMostNodes).SerializeAsString()));
  expect_refused(chain_of(kMostNodes + 1).SerializeAsString(), "operators");
}

TEST(Optimised, AnOperatorHasAnInputAndAnOutput) {
  onnx::ModelProto model = chain_of(2);
  model.mutable_graph()->mutable_node(1)->clear_output();
  expect_refused(model.SerializeAsString(), "without input or output");
  model = chain_of(2);
  model.mutable_graph()->mutable_node(0)->clear_input();
  expect_refused(model.SerializeAsString(), "without input or output");
}

TEST(Optimised, ATruncatedOneIsAnError) {
  const std::string whole = chain_of(5).SerializeAsString();
  for (std::size_t size = 1; size < whole.size(); ++size) {
    const auto parsed = parse_optimised(whole.substr(0, size));
    EXPECT_TRUE(parsed || parsed.error().kind == ErrorKind::kInvalid);
  }
  expect_refused(whole.substr(0, whole.size() - 1), "is no model");
}

// Whatever a model becomes, taking its shims out is a model or an error.
class HostileBand : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::ModelWriter m(5, 17);
    std::string x = m.input("image", {1, 3, 30, 19});
    for (int i = 0; i < 5; ++i) {
      const std::string y =
          m.node("Conv", {x, m.weights({kChannels, i == 0 ? 3 : kChannels, 3, 3})});
      auto& pads = *m.last().add_attribute();
      pads.set_name("pads");
      pads.set_type(onnx::AttributeProto::INTS);
      for (int k = 0; k < 4; ++k) pads.add_ints(1);
      x = i == 0 ? y : m.node("Add", {m.node("Relu", {y}), x});
    }
    m.output(x);
    bytes_ = m.bytes();
    graph_ = testing::graph_of_bytes(bytes_);
    emit_.shims = in_blocks(*graph_, kChannels);
    const int end_op = graph_->units[2].end_op;
    for (int i = graph_->units[1].first_op; i < end_op; ++i)
      for (int t : graph_->ops[static_cast<std::size_t>(i)].outputs)
        if (!graph_->tensors[static_cast<std::size_t>(t)].consumers.empty() &&
            graph_->tensors[static_cast<std::size_t>(t)].consumers.back() >= end_op)
          wanted_.push_back({t, {4, 9}});
    band_ = *emit_band(*graph_, 1, 3, wanted_, {}, emit_);
  }

  static constexpr int kChannels = 16;
  std::string bytes_;
  std::shared_ptr<const Graph> graph_;
  EmitOptions emit_;
  std::vector<TensorRows> wanted_;
  BandModel band_;
};

TEST_F(HostileBand, NodesThatLookLikeShimsAndAreNot) {
  ASSERT_FALSE(wanted_.empty());
  ASSERT_FALSE(band_.inputs.empty());
  ASSERT_FALSE(band_.slices.empty());
  const std::string in = band_.inputs[0].name, out = band_.outputs[0].name,
                    cut = band_.slices[0].value;
  constexpr const char* kTypes[] = {"ReorderInput", "ReorderOutput", "MaxPool", "Slice", "Conv"};
  const char* const kDomain = "com.microsoft.nchwc";
  rc::check([&] {
    const std::vector<std::string> names = {in, out, cut, "a", "b", "c", ""};
    onnx::ModelProto model;
    const int nodes = *rc::gen::inRange(0, 12);
    for (int i = 0; i < nodes; ++i) {
      auto& node = *model.mutable_graph()->add_node();
      node.set_op_type(kTypes[*rc::gen::inRange(0, 5)]);
      if (*rc::gen::arbitrary<bool>()) node.set_domain(kDomain);
      for (int k = *rc::gen::inRange(1, 4); k > 0; --k) node.add_input(*rc::gen::elementOf(names));
      for (int k = *rc::gen::inRange(1, 3); k > 0; --k) node.add_output(*rc::gen::elementOf(names));
      if (*rc::gen::arbitrary<bool>()) {
        auto& kernel = *node.add_attribute();
        kernel.set_name("kernel_shape");
        kernel.set_type(onnx::AttributeProto::INTS);
        for (int k = 0; k < 2; ++k) kernel.add_ints(1);
      }
    }
    model.mutable_graph()->add_output()->set_name(out);
    const auto stripped =
        without_shims(*graph_, band_, emit_.shims, kChannels, model.SerializeAsString());
    if (stripped) RC_ASSERT(onnx::ModelProto().ParseFromString(stripped->SerializeAsString()));
  });
}

}  // namespace
}  // namespace outboard::split::exec
