// SPDX-License-Identifier: Apache-2.0
// Bands that keep the kernels' own layout at their ends: nothing changes layouts in them, an
// addition to what came from elsewhere is fused as in the whole model, and slices of rows stay in
// blocks.
#include "split/exec/blocked.h"

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <map>

#include "engine/optimiser.h"
#include "split/exec/band_opener.h"
#include "split/plan/plan.h"
#include "tests/split/exec/part_cluster.h"
#include "tests/split/random_model.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

class Blocked : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::test_engine()) GTEST_SKIP() << "no ONNX Runtime: NOTHING OF THIS WAS TESTED";
    channels_ = block_channels(*testing::test_engine());
    if (channels_ == 0) GTEST_SKIP() << "this processor's kernels have no layout of their own";
    // Two bottlenecks as in ResNet-50.
    testing::ModelWriter m(5, 17);
    const std::int64_t thin = channels_, wide = 2 * thin;
    const auto conv = [&](const std::string& x, std::int64_t in, std::int64_t out, int k) {
      const std::string y = m.node("Conv", {x, m.weights({out, in, k, k})});
      if (k > 1) {
        auto& pads = *m.last().add_attribute();
        pads.set_name("pads");
        pads.set_type(onnx::AttributeProto::INTS);
        for (int i = 0; i < 4; ++i) pads.add_ints(k / 2);
      }
      return y;
    };
    std::string x = m.node("Relu", {conv(m.input("image", {1, 3, 20, 9}), 3, wide, 3)});
    for (int i = 0; i < 2; ++i) {
      const std::string a = m.node("Relu", {conv(x, wide, thin, 1)});
      const std::string b = m.node("Relu", {conv(a, thin, thin, 3)});
      x = m.node("Relu", {m.node("Add", {conv(b, thin, wide, 1), x})});
    }
    m.output(conv(x, wide, 4, 3));
    model_ = {m.bytes(), m.random_inputs(), "two bottlenecks"};
    graph_ = testing::graph_of_bytes(model_.bytes);
  }

  // Operators of the band's model as it is opened.
  std::map<std::string, int> operators(const BandRequest& band) {
    EmitOptions emit;
    emit.shims = in_blocks(*graph_, channels_);
    const auto model =
        emit_band(*graph_, band.first_unit, band.end_unit, band.wanted, band.slots, emit);
    std::map<std::string, int> count;
    auto* const optimiser = dynamic_cast<engine::ModelOptimiser*>(testing::test_engine());
    if (!model || optimiser == nullptr) return count;
    const auto optimised =
        optimiser->optimise(std::as_bytes(std::span(model->bytes)), {.intra_op_threads = 1});
    if (!optimised) return count;
    const auto stripped = without_shims(*graph_, *model, emit.shims, channels_, *optimised);
    if (!stripped) return count;
    for (const auto& node : stripped->graph().node()) ++count[node.op_type()];
    return count;
  }

  // The tensors that leave the units, for these rows of them.
  std::vector<TensorRows> leaving(int first_unit, int end_unit, Rows rows) const {
    std::vector<TensorRows> wanted;
    const int end_op = graph_->units[at(end_unit) - 1].end_op;
    for (int i = graph_->units[at(first_unit)].first_op; i < end_op; ++i)
      for (int t : graph_->ops[at(i)].outputs)
        if (!graph_->tensors[at(t)].consumers.empty() &&
            graph_->tensors[at(t)].consumers.back() >= end_op)
          wanted.push_back({t, rows});
    return wanted;
  }

  int channels_ = 0;
  testing::RandomModel model_;
  std::shared_ptr<const Graph> graph_;
};

TEST_F(Blocked, AUnitBetweenOthersChangesNoLayoutAndFusesItsAddition) {
  ASSERT_GE(graph_->units.size(), 4u);
  const auto wanted = leaving(1, 2, {5, 12});
  ASSERT_FALSE(wanted.empty());
  const auto count = operators({1, 2, wanted, {}});
  EXPECT_GE(count.count("Conv"), 1u);
  for (const char* type : {"ReorderInput", "ReorderOutput", "MaxPool", "Add", "Relu"})
    EXPECT_EQ(count.count(type), 0u) << type;
}

TEST_F(Blocked, SlicesOfRowsInsideOfAFusedBlockStayInBlocks) {
  const auto wanted = leaving(1, 3, {5, 12});
  ASSERT_FALSE(wanted.empty());
  const auto count = operators({1, 3, wanted, {}});
  EXPECT_GE(count.count("Slice"), 1u);
  for (const char* type : {"ReorderInput", "ReorderOutput", "MaxPool", "Add", "Relu"})
    EXPECT_EQ(count.count(type), 0u) << type;
}

TEST_F(Blocked, OneUnitABlockGivesTheWholeResult) {
  Program program;
  program.participants = {0, 1};
  for (int u = 0; u < static_cast<int>(graph_->units.size()); ++u) {
    const int rows = unit_rows(*graph_, u);
    program.blocks.push_back({u, u + 1, rows, cut_rows(rows, {1, 1}), 0, false});
  }
  const auto blocked = in_blocks(*graph_, channels_);
  EXPECT_GE(std::count(blocked.begin(), blocked.end(), 1), 4);
  const auto whole = testing::run_model(model_.bytes, model_.inputs);
  auto cluster = testing::make_cluster(graph_, program, 0, testing::Transport::kPair,
                                       {.block_channels = channels_});
  ASSERT_TRUE(cluster) << cluster.error().message;
  const auto got = (*cluster)->run(model_.inputs);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_LT(testing::difference(*got, whole), 5e-4);
}

}  // namespace
}  // namespace outboard::split::exec
